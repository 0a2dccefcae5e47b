"""Pure parts of the Kafka and registry set-up."""

from __future__ import annotations

import json

import pytest

from app.errors import StartupRefused
from app.settings import TableSettings
from app.systems.kafka.admin import layout_of
from app.systems.registry.avro import released_schemas
from app.systems.registry.client import RegisteredSchema, refuse_other_ids, subject_of
from app.topics import CONTROL, DAY_MS, EMBEDDINGS_TABLE, TABLES, TASKS, TOPICS, changelog_of, spec_of, topics_of


def test_layouts_follow_the_rows() -> None:
    tasks = layout_of(spec_of(TASKS), 8, "p.")
    assert (tasks.name, tasks.partitions) == ("p.image.tasks.v1", 8)
    assert tasks.config == {"cleanup.policy": "delete", "retention.ms": str(7 * DAY_MS)}
    control = layout_of(spec_of(CONTROL), 8)
    assert (control.partitions, control.config) == (1, {"cleanup.policy": "compact"})
    changelog = layout_of(spec_of(changelog_of(EMBEDDINGS_TABLE)), 8)
    assert changelog.config == {"cleanup.policy": "compact,delete", "retention.ms": str(2 * DAY_MS)}


def test_each_changelog_is_kept_as_long_as_its_table() -> None:
    """For every table there is: what RocksDB keeps, the changelog keeps, by the same setting."""
    tables = TableSettings(claims_days=30, contents_days=0.5, embeddings_days=7)
    kept = {spec.name: spec.retention_ms for spec in topics_of(tables)}
    days = {"uploads": 30, "contents": 0.5, "embeddings": 7}
    assert {table.name: table.days(tables) for table in TABLES} == days
    assert {table: kept[f"sightline.score-{table}-changelog"] for table in days} == {
        table: kept_days * DAY_MS for table, kept_days in days.items()
    }
    assert topics_of(TableSettings()) == TOPICS


def test_each_record_has_one_subject() -> None:
    subjects = [subject_of(schema) for schema in released_schemas()]
    assert subjects[0] == "io.sightline.ImageTask"
    assert len(set(subjects)) == len({json.loads(schema.text)["name"] for schema in released_schemas()})


def test_a_registry_with_other_ids_is_refused_by_name() -> None:
    first, second = released_schemas()[:2]
    agreed = RegisteredSchema(subject_of(first), first, first.schema_id)
    refuse_other_ids([agreed])
    with pytest.raises(StartupRefused, match=rf"gives {second.record}/{second.version} the id 99, but .* pins 2"):
        refuse_other_ids([agreed, RegisteredSchema(subject_of(second), second, 99)])
