"""Pinned digests of the methods of uvicorn and pyiceberg that we override or rely on; after a change read them again.

They are overridden in app/api/bounded_http.py, app/api/serve.py and app/lake/iceberg/commit.py.
"""

from __future__ import annotations

import pytest

from tests.unit.systems.faust.test_pins import digest

PINNED = {
    "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol.connection_made": "6efb565ff3d3",
    "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol.connection_lost": "c91a4c9bf2e2",
    "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol.data_received": "010a7ae59a5d",
    "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol.on_message_begin": "96d377fdc7c2",
    "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol.on_headers_complete": "1ea8589acfad",
    "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol.on_body": "dba9c32aeba3",
    "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol.on_message_complete": "1fbad42dc31f",
    "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol.send_400_response": "ae5a4a3782b6",
    "uvicorn.server:Server.capture_signals": "e1bbcd4770d1",
    "uvicorn.server:Server.shutdown": "9b33c5056299",
    "pyiceberg.table.update.snapshot:_SnapshotProducer._summary": "2ed6b411b541",
    "pyiceberg.table.update.snapshot:_FastAppendFiles._validate_concurrency": "d2545698e897",
    "pyiceberg.table.update.snapshot:_OverwriteFiles._validate_concurrency": "67cd595d63cf",
    "pyiceberg.table.update.validate:_validate_no_new_deletes_for_data_files": "a5cfb62dfa50",
}


@pytest.mark.parametrize("name", PINNED)
def test_the_source_is_what_was_read(name: str) -> None:
    assert digest(name) == PINNED[name], f"read {name} again, then pin its digest here"
