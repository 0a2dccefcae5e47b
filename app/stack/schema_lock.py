"""Extension of schemas/ids.lock: a fresh registry assigns the ids. Released lines must not change."""

from __future__ import annotations

import tempfile
from pathlib import Path

from app.stack.jars import Report
from app.stack.local import LocalStack
from app.stack.options import StackOptions
from app.systems.registry.avro import SCHEMA_DIR, SchemaVersion, released_schemas
from app.systems.registry.client import SchemaRegistry, refuse_other_ids, register_all


def unreleased_schemas(folder: Path = SCHEMA_DIR) -> tuple[SchemaVersion, ...]:
    """Return the schema files that are not in ids.lock, by record and version, with id 0."""
    released = {(schema.record, schema.version) for schema in released_schemas(folder)}
    versions = sorted((path.parent.name, int(path.stem)) for path in folder.glob("*/*.avsc"))
    return tuple(
        SchemaVersion(record, version, 0, (folder / record / f"{version}.avsc").read_text())
        for record, version in versions
        if (record, version) not in released
    )


async def extend_lock(report: Report, folder: Path = SCHEMA_DIR) -> tuple[str, ...]:
    """Start a registry, register released schemas and then new ones, append the new lines and return them.

    Raises StartupRefused if a released schema gets another id: its file was edited or the order changed.
    """
    with tempfile.TemporaryDirectory(prefix="sightline-schemas-") as var_dir:
        options = StackOptions(var_dir=Path(var_dir), with_kafka=False, with_redis=False, with_s3=False)
        async with LocalStack(options, report) as stack, SchemaRegistry(stack.registry_url) as registry:
            refuse_other_ids(await register_all(registry, released_schemas(folder)))
            answered = await register_all(registry, unreleased_schemas(folder))
    lines = tuple(
        f"{registered.answered_id} {registered.schema.record}/{registered.schema.version}" for registered in answered
    )
    if lines:
        with (folder / "ids.lock").open("a") as lock:
            lock.write("".join(f"{line}\n" for line in lines))
    return lines
