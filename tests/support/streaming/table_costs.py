"""Measure the bytes on disk of one claim, in a temporary folder.

python -m tests.support.streaming.table_costs [ROWS]
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import tempfile
from pathlib import Path

from app.domain.claims import StoredClaim, decide, row_key
from app.topics import TASKS
from schemas.records import Position
from tests.contract.test_table_store import SlowChangelog, faust_tables


async def main(rows: int, folder: Path) -> None:
    """Write `rows` claims of different objects, compact, and print what one takes."""
    tables = faust_tables(folder, SlowChangelog())
    batch: dict[bytes, bytes] = {}
    for number in range(rows):
        upload_id = hashlib.sha256(b"upload %d" % number).hexdigest()[:32]
        object_id = hashlib.sha256(b"object %d" % number).hexdigest()[:32]
        row = decide(None, StoredClaim(upload_id, 0, Position(TASKS, 3, number), 1_790_000_000_000)).row
        assert row is not None
        batch[row_key(upload_id, object_id)] = row
        if len(batch) == 200 or number == rows - 1:
            await tables.put("uploads", 0, batch)
            batch = {}
    file = tables.store_of("uploads").file(0)
    file.flush(True)
    file.compact_range(None, None)
    size = sum(path.stat().st_size for path in folder.rglob("*.sst"))
    print(json.dumps({"rows": rows, "bytes_each": round(size / rows, 1)}))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 300_000, Path(made)))
