"""Apache Kafka as one KRaft node (broker and controller) on loopback, configured for transactions on one node."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import Final

from app.errors import StartupRefused
from app.stack import jars, jvm
from app.stack.options import StackOptions
from app.stack.ports import HOST
from app.stack.processes import ServerCommand

_HEAP_MEGABYTES: Final = 512
_FORMAT_SECONDS: Final = 60

_PROPERTIES: Final = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data_dir}
# Topics are declared in app/topics.py; a mistyped name must fail, not appear.
auto.create.topics.enable=false
# One node: every internal topic has one replica, and few partitions, each of which is a folder to open at first use.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=8
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
min.insync.replicas=1
# Tests join groups often and let members die.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# A killed worker's open transaction ends within its own timeout plus one of these.
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
# A restart after a kill -9 waits until the session of the killed node ends.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
num.network.threads=2
num.io.threads=4
num.recovery.threads.per.data.dir=2
log.segment.bytes=67108864
log.cleaner.threads=1
# The default of 128 MB would be a quarter of the heap.
log.cleaner.dedupe.buffer.size=16777216
log.retention.hours=168
log.retention.check.interval.ms=60000
# Ends the session at an orderly stop, so that the next start need not wait for it.
controlled.shutdown.enable=true
"""

_LOGGING: Final = """\
status=error
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{ISO8601} %-5p %m (%c{1})%n
rootLogger.level=info
rootLogger.appenderRef.console.ref=console
# One or more lines for each partition at each start: 21,000 lines after a few dozen topics.
logger.configs.name=org.apache.kafka.common.config.AbstractConfig
logger.configs.level=warn
logger.replay.name=org.apache.kafka.controller
logger.replay.level=warn
logger.logs.name=org.apache.kafka.storage.internals
logger.logs.level=warn
logger.changes.name=state.change.logger
logger.changes.level=warn
logger.partitions.name=kafka.cluster
logger.partitions.level=warn
logger.coordinator.name=org.apache.kafka.coordinator
logger.coordinator.level=warn
logger.cleaner.name=kafka.log
logger.cleaner.level=warn
"""


def kafka_command(options: StackOptions, classpath: tuple[Path, ...], port: int, controller_port: int) -> ServerCommand:
    """Write the broker's configuration, format its storage on first use, and return how to start it. Blocks.

    A later start with the same folder keeps the records, even on another port.
    """
    folder = options.data_dir / "kafka"
    data_dir = folder / "data"
    folder.mkdir(parents=True, exist_ok=True)
    properties = folder / "server.properties"
    properties.write_text(_PROPERTIES.format(host=HOST, port=port, controller_port=controller_port, data_dir=data_dir))
    logging = folder / "log4j2.properties"
    logging.write_text(_LOGGING)
    java_options = (f"-Dlog4j2.configurationFile={logging}", "-Xms256m")
    if not (data_dir / "meta.properties").exists():
        _format(options, properties, classpath, data_dir, java_options[0])
    archive = jvm.class_archive(options.tools_dir, "kafka", classpath)
    command = jvm.java_command(
        classpath, "kafka.Kafka", heap_megabytes=_HEAP_MEGABYTES, options=(*java_options, *archive.options)
    )
    return ServerCommand(
        "kafka",
        (*command, str(properties)),
        options.log_dir / "kafka.log",
        folder,
        after_orderly_stop=archive.keep,
    )


def kafka_classpath(options: StackOptions, report: jars.Report) -> tuple[Path, ...]:
    """Return the broker's verified jars; download missing ones. Blocks. Raises StartupRefused."""
    return jars.fetch(jars.KAFKA, options.tools_dir / "maven", report)


def _format(options: StackOptions, properties: Path, classpath: tuple[Path, ...], data_dir: Path, logging: str) -> None:
    """Copy a formatted, empty storage into `data_dir`. Kafka's tool creates it once for each version of the jars.

    So all stacks of this checkout share one cluster id, which is harmless locally. The tool takes 2 CPU seconds.
    """
    key = hashlib.sha256("\n".join(path.name for path in classpath).encode()).hexdigest()[:12]
    template = options.tools_dir / f"kafka-storage-{key}"
    if not template.exists():
        _make_template(options, properties, classpath, data_dir, logging)
        with tempfile.TemporaryDirectory(prefix="partial-", dir=options.tools_dir) as partial:
            shutil.copytree(data_dir, Path(partial) / "storage")
            if not template.exists():
                (Path(partial) / "storage").rename(template)
    else:
        shutil.copytree(template, data_dir, dirs_exist_ok=True)


def _make_template(
    options: StackOptions, properties: Path, classpath: tuple[Path, ...], data_dir: Path, logging: str
) -> None:
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    command = jvm.java_command(
        classpath, "kafka.tools.StorageTool", heap_megabytes=128, options=(logging, "-XX:TieredStopAtLevel=1")
    )
    log_file = options.log_dir / "kafka.log"
    log_file.parent.mkdir(parents=True, exist_ok=True)
    data_dir.mkdir(parents=True, exist_ok=True)
    with log_file.open("ab") as log:
        done = subprocess.run(
            [*command, "format", "--cluster-id", cluster_id, "--config", str(properties)],
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=_FORMAT_SECONDS,
            check=False,
        )
    if done.returncode != 0:
        raise StartupRefused(f"cannot format Kafka's storage (exit code {done.returncode}); see {log_file}")
