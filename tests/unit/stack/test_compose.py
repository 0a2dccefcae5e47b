"""docker-compose.yml: valid by the published schema, loopback only, and meant for this code.

compose-spec.json is the schema of compose-go 2.16.2 (Apache-2.0), against which `docker compose config` validates.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from agents import AGENTS
from app.lake.connect.config import CONNECT_DIR, connector_configs, native_registry, worker_environment
from app.settings import ROOT, Settings, load_settings
from app.stack import jars
from app.stack.jars import read_lock
from app.stack.store_servers import VERSITYGW_MODULE
from app.topics import UPLOADS

SCHEMA = json.loads(Path(__file__).with_name("compose-spec.json").read_text())
WORKERS = tuple(agent.name for agent in AGENTS)
API = "api"
JOBS = ("init", "bucket", "lake-init", "lake-bucket", "lake-up", "lake")


@pytest.fixture
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


def _ours(compose: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in (*WORKERS, API, *JOBS):
        yield name, compose["services"][name]


def test_the_file_is_valid_by_the_published_schema(compose: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(compose)


def test_the_schema_rejects_what_is_wrong(compose: dict[str, Any]) -> None:
    compose["services"]["kafka"]["imagee"] = "typo"
    with pytest.raises(jsonschema.ValidationError, match="imagee"):
        jsonschema.Draft202012Validator(SCHEMA).validate(compose)


def test_every_port_is_published_on_loopback_and_once(compose: dict[str, Any]) -> None:
    published = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in published)
    assert len({port.split(":")[1] for port in published}) == len(published)


def test_everything_that_stays_up_has_a_health_check(compose: dict[str, Any]) -> None:
    lasting = {name for name in compose["services"] if name not in JOBS}
    assert {name for name in lasting if "healthcheck" in compose["services"][name]} == lasting


def test_dependencies_and_volumes_exist_and_wait_for_what_they_can(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, service in services.items():
        for other, need in service.get("depends_on", {}).items():
            assert other in services, f"{name} depends on {other}"
            job = need["condition"] == "service_completed_successfully"
            assert job == (other in JOBS), f"{name} waits for {other} in the wrong way"
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in compose["volumes"]


def test_every_worker_runs_and_has_settings_that_load(compose: dict[str, Any]) -> None:
    """Each container's environment is read by the code that reads it there; an unknown variable is an error."""
    for name, service in _ours(compose):
        settings: Settings = load_settings(service["environment"])
        assert settings.kafka.bootstrap == "kafka:29092"
        assert settings.s3.endpoint == "http://s3:7070"
        assert settings.registry.url.endswith("/apis/ccompat/v7")
        if name in WORKERS:
            assert service["command"] == ["worker", name, "--restart", "--ceiling-exit", "0"]
            # Docker starts again what ends with a failure, and so would 78, too many dead letters, by every policy.
            assert service["restart"] == "on-failure"
            assert f":{settings.worker.http_port}/healthz" in service["healthcheck"]["test"][-1]
            assert float(service["stop_grace_period"].removesuffix("s")) > settings.lane.drain_seconds


def test_the_workers_are_the_agents_and_only_an_optional_one_needs_a_profile(compose: dict[str, Any]) -> None:
    running = {name for name, service in compose["services"].items() if service.get("command", [""])[0] == "worker"}
    assert running == set(WORKERS)
    in_profiles = {name for name in running if "profiles" in compose["services"][name]}
    assert in_profiles == {agent.name for agent in AGENTS if agent.optional}


def test_the_api_listens_in_its_container_and_is_published_on_loopback(compose: dict[str, Any]) -> None:
    service = compose["services"][API]
    settings: Settings = load_settings(service["environment"])
    assert settings.api.host == "0.0.0.0"
    assert service["ports"] == [f"127.0.0.1:8080:{settings.api.port}"]
    assert f":{settings.api.port}/healthz" in service["healthcheck"]["test"][-1]
    assert (service["command"], service["image"]) == (["api"], compose["services"]["score"]["image"])
    assert service["restart"] == "unless-stopped"
    # Keys and decisions lie in Kafka, outcomes in the index.
    assert {"init", "valkey"} <= set(service["depends_on"])


def test_versions_are_those_of_the_local_stack(compose: dict[str, Any]) -> None:
    coordinates = " ".join(locked.coordinate for locked in read_lock())
    kafka = compose["services"]["kafka"]["image"].removeprefix("apache/kafka:")
    registry = compose["services"]["registry"]["image"].partition(":")[2]
    assert f"org.apache.kafka:kafka_2.13:jar:{kafka}" in coordinates
    assert f"apicurio-registry-app:tar.gz:all:{registry}" in coordinates
    assert f"go install {VERSITYGW_MODULE}" in (ROOT / "deploy" / "Dockerfile").read_text()


def test_versitygw_notifies_the_upload_topic_after_it_was_created(compose: dict[str, Any]) -> None:
    store = compose["services"]["s3"]
    assert f"--event-kafka-topic={UPLOADS}" in store["command"]
    assert store["depends_on"]["init"]["condition"] == "service_completed_successfully"


def test_every_stage_that_is_built_exists_with_what_it_copies(compose: dict[str, Any]) -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", dockerfile, re.MULTILINE))
    for service in compose["services"].values():
        if "build" in service and service["build"]["context"] == ".":
            assert service["build"]["target"] in stages
            assert (ROOT / service["build"]["dockerfile"]).exists()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for source in re.findall(r"^COPY (?!--from)(\S+) ", dockerfile, re.MULTILINE):
        assert (ROOT / source).exists(), f"the Dockerfile copies {source}"
        assert f"!{source}" in ignored, f".dockerignore lets {source} through"


def test_the_lake_is_a_profile_and_connect_gets_every_variable_it_refers_to(compose: dict[str, Any]) -> None:
    services = compose["services"]
    of_the_lake = {name for name, service in services.items() if service.get("profiles") == ["lake"]}
    assert of_the_lake == {"archive", "connect", "lake", "lake-bucket", "lake-init", "lake-up", "lake-watch"}
    settings = load_settings(services["lake-up"]["environment"])
    assert settings.lake.catalog == "sqlite"
    texts = [(CONNECT_DIR / "worker.properties").read_text()]
    texts += [json.dumps(config) for config in connector_configs(settings).values()]
    wanted = {name for text in texts for name in re.findall(r"\$\{env:(\w+)\}", text)}
    assert wanted
    environment = services["connect"]["environment"]
    assert wanted <= set(environment)
    assert wanted <= set(worker_environment(settings, "catalog.db", "http://127.0.0.1:8083"))
    # What both say must be the same: the one writes tables, the other reads them.
    assert environment["SIGHTLINE_LAKE_CATALOG_URI"] == settings.lake.catalog_uri
    assert environment["SIGHTLINE_LAKE_WAREHOUSE"] == settings.lake.warehouse
    assert environment["SIGHTLINE_LAKE_NAMESPACE"] == settings.lake.namespace
    assert environment["SIGHTLINE_CONNECT_REGISTRY"] == native_registry(settings.registry.url)


def test_the_image_of_connect_has_what_the_local_stack_runs() -> None:
    """The pom's versions and artefacts are the roots of maven.lock, and its Dockerfile copies what exists."""
    properties = dict(re.findall(r"<(\w+)\.version>([^<]+)<", (CONNECT_DIR / "pom.xml").read_text()))
    groups = {"worker": jars.CONNECT, "iceberg": jars.CONNECT_ICEBERG, "avro": jars.CONNECT_AVRO}
    for module, group in groups.items():
        pom = (CONNECT_DIR / module / "pom.xml").read_text()
        named = r"<groupId>(.+?)</groupId>\s*<artifactId>(.+?)</artifactId>\s*<version>\$\{(\w+)\.version"
        found = {f"{owner}:{artifact}:{properties[version]}" for owner, artifact, version in re.findall(named, pom)}
        assert found == {root for name, root, _ in jars.ROOTS if name == group}
        assert ("<exclusion>" in pom) == (group in jars.PLUGINS)
    assert list((CONNECT_DIR / "avro" / "services").rglob("*.Converter"))
