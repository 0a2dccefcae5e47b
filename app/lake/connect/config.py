"""Connector configuration: JSON files of deploy/connect, merged for the catalog and store of the settings.

Later sources override earlier ones: common file, table's file, overlay of the catalog, overlay of the store, settings.
Secrets and addresses remain references to the worker's environment (`${env:…}`), so none is stored in Connect's topic.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from app.domain.lake import TABLES, LakeTable
from app.settings import ROOT, Settings

CONNECT_DIR: Final = ROOT / "deploy" / "connect"


def connector_name(settings: Settings, table: LakeTable) -> str:
    """Return the name of a table's connector in this installation."""
    return settings.kafka.prefix + table.connector


def connector_config(settings: Settings, table: LakeTable, folder: Path = CONNECT_DIR) -> dict[str, str]:
    """Return the body of a PUT to `/connectors/<name>/config`."""
    parts = [_read(folder / "connectors" / "common.json"), _read(folder / "connectors" / f"{table.name}.json")]
    parts.append(_read(folder / "overlays" / f"{settings.lake.catalog}.json"))
    if settings.s3.endpoint:
        parts.append(_read(folder / "overlays" / "s3-compatible.json"))
    config: dict[str, str] = {name: value for part in parts for name, value in part.items()}
    prefix, lake = settings.kafka.prefix, settings.lake
    if lake.catalog == "glue" and lake.catalog_uri:
        config["iceberg.catalog.glue.endpoint"] = lake.catalog_uri
    return {
        **config,
        "name": connector_name(settings, table),
        "topics": prefix + config["topics"],
        "iceberg.tables": f"{lake.namespace}.{table.name}",
        "iceberg.control.topic": prefix + config["iceberg.control.topic"],
        "tasks.max": str(lake.tasks),
        "iceberg.control.commit.interval-ms": str(round(lake.commit_seconds * 1000)),
        "iceberg.control.commit.timeout-ms": str(round(lake.commit_timeout_seconds * 1000)),
    }


def connector_configs(settings: Settings) -> Mapping[str, dict[str, str]]:
    """Return every connector's configuration by its name."""
    return {connector_name(settings, table): connector_config(settings, table) for table in TABLES}


def worker_environment(settings: Settings, catalog_uri: str, listeners: str) -> dict[str, str]:
    """Return the variables that a Connect worker reads: worker.properties and the connectors refer to them."""
    s3, lake = settings.s3, settings.lake
    # Glue's client uses only the AWS credentials chain, which begins with these variables.
    chain = {"AWS_ACCESS_KEY_ID": s3.access_key, "AWS_SECRET_ACCESS_KEY": s3.secret_key.reveal()}
    return {
        **(chain if s3.access_key else {}),
        "SIGHTLINE_KAFKA_BOOTSTRAP": settings.kafka.bootstrap,
        "SIGHTLINE_KAFKA_PREFIX": settings.kafka.prefix,
        "SIGHTLINE_CONNECT_LISTENERS": listeners,
        "SIGHTLINE_CONNECT_REGISTRY": native_registry(settings.registry.url),
        "SIGHTLINE_LAKE_CATALOG_URI": catalog_uri,
        "SIGHTLINE_LAKE_WAREHOUSE": lake.warehouse,
        "SIGHTLINE_LAKE_NAMESPACE": lake.namespace,
        "SIGHTLINE_S3_REGION": s3.region,
        "SIGHTLINE_S3_ENDPOINT": s3.endpoint,
        "SIGHTLINE_S3_ACCESS_KEY": s3.access_key,
        "SIGHTLINE_S3_SECRET_KEY": s3.secret_key.reveal(),
    }


def native_registry(url: str) -> str:
    """Return the address of Apicurio's own interface, which the converter uses, from the Confluent address `url`."""
    return url.split("/apis/", 1)[0].rstrip("/") + "/apis/registry/v2"


def _read(path: Path) -> dict[str, str]:
    config: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return config
