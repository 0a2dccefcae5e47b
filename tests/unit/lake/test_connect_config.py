"""The connectors: every table has one, and the settings that keep a row from being lost are in all of them."""

from __future__ import annotations

import json

import pytest

from app.domain.lake import COORDINATES, TABLES, LakeTable
from app.lake.connect.config import CONNECT_DIR, connector_config, connector_configs
from app.settings import Settings, load_settings
from app.topics import LAKE_TOPICS, topics_of

_S3 = {"SIGHTLINE_S3_ENDPOINT": "http://127.0.0.1:1", "SIGHTLINE_S3_SECRET_KEY": "hidden"}


def _settings(**variables: str) -> Settings:
    return load_settings({**_S3, **variables})


def test_every_table_has_a_connector_file_and_no_other_exists() -> None:
    files = {path.stem for path in (CONNECT_DIR / "connectors").glob("*.json")} - {"common"}
    assert files == {table.name for table in TABLES}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_connector_reads_its_topic_into_its_table(table: LakeTable) -> None:
    written = json.loads((CONNECT_DIR / "connectors" / f"{table.name}.json").read_text())
    assert written["name"] == table.connector
    config = connector_config(_settings(), table)
    assert (config["name"], config["topics"]) == (table.connector, table.topic)
    assert config["iceberg.tables"] == f"sightline.{table.name}"
    assert written["iceberg.tables"] == f"${{env:SIGHTLINE_LAKE_NAMESPACE}}.{table.name}"
    assert config["iceberg.control.topic"] == table.control_topic
    assert table.control_topic in {spec.name for spec in LAKE_TOPICS}
    spec = next(spec for spec in topics_of(_settings().tables) if spec.name == table.topic)
    assert "lake" in spec.other_readers and spec.record == table.record


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_what_keeps_rows_from_being_lost_is_set(table: LakeTable) -> None:
    config = connector_config(_settings(), table)
    # Without it a worker that is killed before its first commit loses all that it had read (apache/iceberg PR 18006).
    assert config["iceberg.kafka.auto.offset.reset"] == "earliest"
    assert config["consumer.override.auto.offset.reset"] == "earliest"
    assert config["consumer.override.isolation.level"] == "read_committed"
    # With "all" a registry that is away for a moment sends good records into nothing.
    assert config["errors.tolerance"] == "none"
    # A wiped catalog must be seen, not be replaced by an empty table.
    assert config["iceberg.tables.auto-create-enabled"] == "false"
    assert config["iceberg.tables.schema-force-optional"] == "true"
    fields = {value for name, value in config.items() if name.endswith(".field")}
    assert fields == set(COORDINATES)


def test_prefix_intervals_tasks_and_namespace_are_those_of_the_settings() -> None:
    settings = _settings(
        SIGHTLINE_KAFKA_PREFIX="eu.",
        SIGHTLINE_LAKE_COMMIT_SECONDS="30",
        SIGHTLINE_LAKE_TASKS="4",
        SIGHTLINE_LAKE_NAMESPACE="eu",
    )
    config = connector_configs(settings)["eu.lake-predictions"]
    assert config["topics"] == "eu.image.predictions.v1"
    assert config["iceberg.control.topic"] == "eu.lake.control.predictions.v1"
    assert config["iceberg.control.commit.interval-ms"] == "30000"
    assert config["tasks.max"] == "4"
    assert config["iceberg.tables"] == "eu.predictions"


@pytest.mark.parametrize(
    ("variables", "present", "absent"),
    [
        ({}, "iceberg.catalog.jdbc.schema-version", "iceberg.catalog.type"),
        ({"SIGHTLINE_LAKE_CATALOG": "rest"}, "iceberg.catalog.type", "iceberg.catalog.catalog-impl"),
        ({"SIGHTLINE_LAKE_CATALOG": "glue"}, "iceberg.catalog.catalog-impl", "iceberg.catalog.uri"),
    ],
)
def test_each_catalog_has_its_overlay(variables: dict[str, str], present: str, absent: str) -> None:
    config = connector_config(_settings(**variables), TABLES[0])
    assert present in config and absent not in config


def test_on_aws_there_is_no_endpoint_and_no_key() -> None:
    config = connector_config(load_settings({"SIGHTLINE_LAKE_CATALOG": "glue"}), TABLES[0])
    assert not [name for name in config if "endpoint" in name or "key" in name]


def test_no_secret_lies_in_a_configuration() -> None:
    assert "hidden" not in json.dumps(dict(connector_configs(_settings())))
