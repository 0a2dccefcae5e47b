"""The local stack's own promises, on its real servers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from aiobotocore.session import get_session
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from app.errors import StartupRefused
from app.settings import ROOT
from app.stack.local import KAFKA, REDIS, REGISTRY, LocalStack
from app.stack.ports import HOST
from app.stack.processes import identify_process
from app.stack.schema_lock import extend_lock
from app.stack.state import load_state
from app.systems.kafka.admin import broker_answers, check_topics, create_topics, topic_partitions
from app.systems.registry.avro import SchemaVersion, released_schemas
from app.systems.registry.client import SchemaRegistry, check_registry, refuse_other_ids, register_all
from app.systems.s3.admin import StoreAccess
from app.topics import CONTROL, TASKS, TOPICS, UPLOADS, TopicSpec
from tests.support.eventually import eventually
from tests.support.stack import TEST_PARTITIONS, TestNames

pytestmark = pytest.mark.services


async def _values(bootstrap: str, topic: str, count: int, within_ms: int = 15_000) -> list[bytes]:
    """Return the first `count` committed records of `topic`, or what there is of them in time."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    await consumer.start()
    try:
        values: list[bytes] = []
        while len(values) < count:
            batches = await consumer.getmany(timeout_ms=within_ms)
            if not batches:
                break
            values.extend(record.value for records in batches.values() for record in records)
        return values
    finally:
        await consumer.stop()


async def _send(bootstrap: str, topic: str, *values: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(topic, value)
    finally:
        await producer.stop()


# Topics


async def test_topics_lie_as_declared(stack: LocalStack, topics: str) -> None:
    counts = await topic_partitions(stack.kafka)
    assert {spec.name: counts[topics + spec.name] for spec in TOPICS} == {
        spec.name: 1 if spec.name == CONTROL else TEST_PARTITIONS for spec in TOPICS
    }
    await check_topics(stack.kafka, partitions=TEST_PARTITIONS, prefix=topics)
    assert await create_topics(stack.kafka, partitions=TEST_PARTITIONS, prefix=topics) == (), "made once"


async def test_a_missing_topic_is_refused_by_name_with_the_command(stack: LocalStack, names: TestNames) -> None:
    with pytest.raises(StartupRefused, match=rf"{names.prefix}.* does not exist .*stack init"):
        await check_topics(stack.kafka, partitions=TEST_PARTITIONS, prefix=names.prefix)


async def test_a_wrong_partition_count_is_refused(stack: LocalStack, topics: str) -> None:
    with pytest.raises(StartupRefused, match=r"has 4 partitions, expected 5"):
        await check_topics(stack.kafka, partitions=5, prefix=topics)


async def test_a_wrong_cleanup_policy_is_refused(stack: LocalStack, names: TestNames) -> None:
    def spec(cleanup: str) -> TopicSpec:
        return TopicSpec("kept", "any", None, cleanup, 60_000, (), ())

    await create_topics(stack.kafka, [spec("delete")], partitions=1, prefix=names.prefix)
    await check_topics(stack.kafka, [spec("delete")], partitions=1, prefix=names.prefix)
    with pytest.raises(StartupRefused, match=r"has cleanup.policy=delete, expected compact; run `kafka-configs"):
        await check_topics(stack.kafka, [spec("compact")], partitions=1, prefix=names.prefix)


# Broker


async def test_the_broker_commits_and_aborts_transactions(stack: LocalStack, topics: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=stack.kafka, transactional_id=topics + "tx", acks="all")
    await producer.start()
    try:
        async with producer.transaction():
            await producer.send(topics + TASKS, b"committed")
        await producer.begin_transaction()
        await producer.send_and_wait(topics + TASKS, b"aborted")
        await producer.abort_transaction()
    finally:
        await producer.stop()
    assert await _values(stack.kafka, topics + TASKS, 2, within_ms=2_000) == [b"committed"]


async def test_a_killed_broker_comes_back_with_its_records_at_the_same_address(stack: LocalStack, topics: str) -> None:
    address = stack.kafka
    await _send(address, topics + TASKS, b"before")
    await stack.kill(KAFKA)
    assert not await broker_answers(address)
    await stack.restart(KAFKA)
    assert stack.kafka == address
    await _send(address, topics + TASKS, b"after")
    assert sorted(await _values(address, topics + TASKS, 2)) == [b"after", b"before"]


async def test_a_frozen_server_does_not_answer_until_it_is_resumed(stack: LocalStack) -> None:
    pid = stack.pid_of(REGISTRY)
    stack.pause(REGISTRY)
    async with SchemaRegistry(stack.registry_url, timeout_seconds=1.0) as registry:
        assert not await registry.answers()
        stack.resume(REGISTRY)
        await eventually(registry.answers, 10)
    assert stack.pid_of(REGISTRY) == pid


async def test_what_a_fault_left_dead_or_frozen_is_revived(stack: LocalStack) -> None:
    await stack.kill(REDIS)
    stack.pause(REGISTRY)
    assert await stack.revive() == (REDIS,)
    async with SchemaRegistry(stack.registry_url) as registry:
        await eventually(registry.answers, 10)
    assert await stack.revive() == ()


# Schema registry


async def test_the_ids_come_out_the_same_on_every_fresh_registry(stack: LocalStack) -> None:
    async with SchemaRegistry(stack.registry_url) as registry:
        first = [found.answered_id for found in await register_all(registry)]
    await stack.kill(REGISTRY)  # it keeps nothing on disk
    await stack.restart(REGISTRY)
    await check_registry(stack.registry_url)
    async with SchemaRegistry(stack.registry_url) as registry:
        second = [found.answered_id for found in await register_all(registry)]
        texts = [await registry.schema_text(schema_id) for schema_id in second]
    pinned = released_schemas()
    assert first == second == [schema.schema_id for schema in pinned]
    assert [json.loads(text or "{}")["name"] for text in texts] == [schema.record for schema in pinned]


async def test_another_text_gets_another_id_and_is_refused(stack: LocalStack) -> None:
    released = released_schemas()[0]
    body = json.loads(released.text)
    edited = SchemaVersion(
        released.record, released.version, released.schema_id, json.dumps({**body, "doc": "Edited after its release."})
    )
    with pytest.raises(StartupRefused, match=rf"does not hold {released.record}/1 .*stack init"):
        await check_registry(stack.registry_url, [edited])
    async with SchemaRegistry(stack.registry_url) as registry:
        answered = await register_all(registry, [edited])
    with pytest.raises(StartupRefused, match=rf"gives {released.record}/1 the id .* pins {released.schema_id}"):
        refuse_other_ids(answered)
    with pytest.raises(StartupRefused, match="gives"):
        await check_registry(stack.registry_url, [edited])
    await check_registry(stack.registry_url)


async def test_an_invalid_schema_is_refused_with_the_reason(stack: LocalStack, names: TestNames) -> None:
    async with SchemaRegistry(stack.registry_url) as registry:
        with pytest.raises(StartupRefused, match="the schema registry refuses"):
            await registry.register(names.topic("broken"), '{"type": "nonsense"}')


# Object stores


async def test_ministack_sends_notifications_of_a_bucket_to_its_queue(stack: LocalStack, names: TestNames) -> None:
    url = await stack.notify_queue(names.bucket, names.queue)
    keys = {"aws_access_key_id": stack.s3.access_key, "aws_secret_access_key": stack.s3.secret_key}
    where = {"endpoint_url": stack.s3_endpoint, "region_name": stack.s3.region, **keys}
    async with get_session().create_client("s3", **where) as s3, get_session().create_client("sqs", **where) as sqs:
        await s3.put_object(Bucket=names.bucket, Key="a b/ü.jpg", Body=b"pixels")
        answer = await sqs.receive_message(QueueUrl=url, WaitTimeSeconds=5, MaxNumberOfMessages=10)
    records = [record for message in answer["Messages"] for record in json.loads(message["Body"]).get("Records", [])]
    assert [(record["s3"]["bucket"]["name"], record["s3"]["object"]["size"]) for record in records] == [
        (names.bucket, 6)
    ]


async def test_versitygw_sends_notifications_to_the_upload_topic(
    stack: LocalStack, names: TestNames, versitygw: StoreAccess
) -> None:
    async with get_session().create_client(
        "s3",
        endpoint_url=versitygw.endpoint,
        region_name=versitygw.region,
        aws_access_key_id=versitygw.access_key,
        aws_secret_access_key=versitygw.secret_key,
    ) as s3:
        await s3.put_object(Bucket=names.bucket, Key="one.jpg", Body=b"pixels")
        body = await (await s3.get_object(Bucket=names.bucket, Key="one.jpg"))["Body"].read()
    assert body == b"pixels"
    # The first message is the server's own test event.
    values = await _values(stack.kafka, names.topic(UPLOADS), 2)
    records = [record for value in values for record in json.loads(value).get("Records", [])]
    assert [record["s3"]["object"]["key"] for record in records if record["s3"]["bucket"]["name"] == names.bucket] == [
        "one.jpg"
    ]


def test_without_go_versitygw_says_so(tmp_path: Path) -> None:
    """With an empty PATH, in a folder for tools that holds no binary."""
    script = (
        "import pathlib, sys; from app.stack.options import StackOptions; from app.stack.store_servers import "
        "versitygw_binary; versitygw_binary(StackOptions(tools_dir=pathlib.Path(sys.argv[1])), print)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], env={"PATH": ""}, cwd=ROOT, capture_output=True, text=True
    )
    assert "Go is missing" in done.stderr
    assert "use `--s3 ministack`" in done.stderr


# Command line


def _sightline(var_dir: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SIGHTLINE_")}
    return subprocess.run(
        [sys.executable, "-m", "app", *words],
        env={**environment, "SIGHTLINE_STACK_VAR_DIR": str(var_dir), "SIGHTLINE_KAFKA_PARTITIONS": "2"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )


async def test_up_status_init_and_down(tmp_path: Path) -> None:
    assert _sightline(tmp_path, "stack", "status").returncode == 1
    up = _sightline(tmp_path, "stack", "up", "--detach")
    try:
        assert up.returncode == 0, up.stdout + up.stderr
        assert "MiniStack keeps objects in memory" in up.stdout
        assert "versitygw" in up.stdout
        status = _sightline(tmp_path, "stack", "status", "--json")
        described = json.loads(status.stdout)
        assert status.returncode == 0
        assert {server["name"] for server in described["servers"]} == {KAFKA, REGISTRY, REDIS, "ministack"}
        assert all(server["running"] for server in described["servers"])
        assert described["environment"]["SIGHTLINE_KAFKA_PARTITIONS"] == "2"
        shell = _sightline(tmp_path, "stack", "status", "--env").stdout
        assert f"export SIGHTLINE_KAFKA_BOOTSTRAP={described['environment']['SIGHTLINE_KAFKA_BOOTSTRAP']}" in shell
        init = _sightline(tmp_path, "stack", "init")
        assert (init.returncode, init.stdout.splitlines()[0][:17]) == (0, "topics: 0 created")
        again = _sightline(tmp_path, "stack", "up")
        assert again.returncode == 2
        assert "a stack already runs" in again.stderr
        assert "Traceback" not in again.stderr
    finally:
        down = _sightline(tmp_path, "stack", "down")
    assert down.returncode == 0
    assert not any(_exists(server["pid"]) for server in described["servers"])
    assert load_state(tmp_path) is None
    assert (tmp_path / "log" / "kafka.log").stat().st_size > 0, "logs are kept"


async def test_everything_ends_when_the_stack_is_killed_and_its_data_survive(tmp_path: Path) -> None:
    up = _sightline(tmp_path, "stack", "up", "--detach")
    assert up.returncode == 0, up.stdout + up.stderr
    try:
        state = load_state(tmp_path)
        assert state is not None
        await _send(state.environment["SIGHTLINE_KAFKA_BOOTSTRAP"], UPLOADS, b"kept")
        servers = [identify_process(server.pid) for server in state.servers]
        os.kill(state.owner.pid, signal.SIGKILL)
        await eventually(lambda: not any(server.alive() for server in servers), 5)
        again = _sightline(tmp_path, "stack", "up", "--detach")
        assert again.returncode == 0, again.stdout + again.stderr
        state = load_state(tmp_path)
        assert state is not None
        assert await _values(state.environment["SIGHTLINE_KAFKA_BOOTSTRAP"], UPLOADS, 1) == [b"kept"]
    finally:
        _sightline(tmp_path, "stack", "down")


def _exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_schema_lock_is_complete(tmp_path: Path) -> None:
    """`stack lock --schemas` on an unchanged tree has nothing to add."""
    before = (ROOT / "schemas" / "ids.lock").read_text()
    done = _sightline(tmp_path, "stack", "lock", "--schemas")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "schemas/ids.lock is complete"
    assert (ROOT / "schemas" / "ids.lock").read_text() == before


async def test_new_schemas_are_numbered_after_the_released_ones(tmp_path: Path) -> None:
    folder = tmp_path / "schemas"
    for schema in released_schemas():
        (folder / schema.record).mkdir(parents=True, exist_ok=True)
        (folder / schema.record / f"{schema.version}.avsc").write_text(schema.text)
    shutil.copy(ROOT / "schemas" / "ids.lock", folder)
    released = released_schemas()
    body = json.loads(released[0].text)
    body["fields"].append({"name": "added_later", "type": "string", "default": ""})
    (folder / released[0].record / "99.avsc").write_text(json.dumps(body))
    added = await extend_lock(lambda _line: None, folder)
    assert added == (f"{len(released) + 1} {released[0].record}/99",)
    assert released_schemas(folder)[:-1] == released
    assert await extend_lock(lambda _line: None, folder) == ()


async def test_a_lock_that_a_fresh_registry_contradicts_is_refused(tmp_path: Path) -> None:
    released = released_schemas()[0]
    (tmp_path / released.record).mkdir()
    (tmp_path / released.record / f"{released.version}.avsc").write_text(released.text)
    (tmp_path / "ids.lock").write_text(f"5 {released.record}/{released.version}\n")
    with pytest.raises(StartupRefused, match=rf"gives {released.record}/{released.version} the id 1, but .* pins 5"):
        await extend_lock(lambda _line: None, tmp_path)


def test_a_port_in_use_ends_stack_up_with_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = _sightline(tmp_path, "stack", "up", "--redis-port", str(port))
    assert refused.returncode == 2
    assert refused.stderr.strip() == (
        f"sightline: port {port} for Redis is in use; stop what listens there or choose another one"
    )
    assert list((tmp_path / "run").glob("*.pid")) == []


def test_init_without_a_broker_is_one_sentence(tmp_path: Path) -> None:
    refused = _sightline(tmp_path, "stack", "init")
    assert refused.returncode == 2
    assert refused.stderr.startswith("sightline: Kafka at 127.0.0.1:9092 does not answer")
    assert len(refused.stderr.splitlines()) == 1
