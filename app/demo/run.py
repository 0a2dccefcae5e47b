"""The demo's course: servers up, agents on, pictures in, outcomes counted, the ledger, and what to try next."""

from __future__ import annotations

import asyncio
import json
import shlex
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agents import PIPELINE
from app.adapters.avro import Codec
from app.adapters.kafka_follow import TopicFollower, committed_offsets
from app.adapters.s3_put import Uploader
from app.demo.lake import LakeAnswers, ask_lake, decide
from app.demo.photographs import packaged_photographs
from app.demo.pictures import Picture, folder_pictures, made_pictures
from app.demo.processes import Children, run_verb, shown
from app.demo.screen import Screen
from app.demo.tally import Tally
from app.errors import StartupRefused
from app.settings import ROOT, Settings, load_settings
from app.stack.state import StackState, load_state
from app.topics import FLAGGED, PREDICTIONS
from schemas.records import FlaggedImage, ImagePrediction

BUCKET: Final = "images"
# Loading and checking four models took 10 s here on two idle cores; four times that without an outcome is a failure.
_SILENCE_SECONDS: Final = 120.0
# moderate and index are some hundred milliseconds behind score.
_FOLLOWERS_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.25
_UPLOADS_AT_ONCE: Final = 8
_EXAMPLES: Final = 4


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What was asked for. `s3` empty: what runs, else what the settings say."""

    images: int
    s3: str
    folder: Path | None
    down: bool
    seed: int
    limit_seconds: float
    as_json: bool = False
    lake: bool = False


async def run_demo(options: DemoOptions, environment: Mapping[str, str]) -> int:
    """Run the demo and return the exit code: 0 when the ledger adds up, 1 when not.

    Raises StartupRefused when something cannot start. Whatever happens, the agents it started are ended; the servers
    stay unless `down` is set or the demo is interrupted.
    """
    screen = Screen(on_stderr=options.as_json)
    var_dir = load_settings(environment).stack.var_dir.resolve()
    screen.title(f"Sightline demo: {_asked(options)} through the whole pipeline, on real servers on this machine")
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    mine = False
    kept = False
    try:
        state = load_state(var_dir)
        if state is None:
            mine = True
            state = await _stack_up(options, environment, screen, var_dir)
        elif options.s3 and options.s3 != state.s3_kind:
            raise StartupRefused(
                f"a stack with {state.s3_kind} runs; end it with `./sightline stack down`, or leave --s3 out"
            )
        else:
            if options.lake and "SIGHTLINE_LAKE_CONNECT_URL" not in state.environment:
                raise StartupRefused("the stack that runs has no lake; end it with `./sightline stack down`")
            screen.step(f"the stack that runs already is used (Kafka, registry, Redis, {state.s3_kind})")
        code = await _run(options, {**environment, **_beneath(state, environment)}, screen, state)
        kept = not options.down
        return code
    except asyncio.CancelledError:
        screen.line("interrupted; everything that the demo started is being ended")
        return 130
    finally:
        if mine and not kept:
            await run_verb(environment, "stack", "down")
            screen.line("the servers were ended; their data and logs stay in " + shown(var_dir))


async def _run(options: DemoOptions, environment: Mapping[str, str], screen: Screen, state: StackState) -> int:
    settings = load_settings(environment)
    folder = settings.stack.var_dir.resolve() / "demo"
    prefix = time.strftime("demo/%Y%m%d-%H%M%S/", time.gmtime())
    async with Children(folder, environment) as children:
        # Tables lie beside the servers' data, so that a fresh stack begins with fresh tables.
        data_dir = settings.stack.var_dir.resolve() / "stack" / "workers"
        for agent in PIPELINE:
            children.start(
                agent, "worker", agent, "--restart", environment={"SIGHTLINE_WORKER_DATA_DIR": str(data_dir)}
            )
        if settings.sqs.queue_url:
            children.start("bridge", "bridge", "sqs")
        screen.step(
            f"agents started: {', '.join(PIPELINE)}" + (" and the SQS bridge" if settings.sqs.queue_url else "")
        )
        screen.step(f"their logs: {shown(folder / 'log')}; scoring begins when the models are loaded and checked")
        tally = Tally(_count(options))
        failure = await _score_all(options, settings, prefix, children, tally, screen)
        if failure is None:
            await _followers(settings, tally, children)
    screen.step("agents ended")
    if failure is not None:
        screen.line(f"NOT COMPLETE: {failure}")
    _tell_outcomes(tally, screen)
    where = f"s3://{BUCKET}/{prefix}"
    ledger_code, text = await run_verb(environment, "audit", where, "--json")
    found = _ledger(text)
    ledger = _ledger_line(found)
    surprises = tally.surprises()
    for surprise in surprises[:5]:
        screen.line(
            f"NOT AS IT SHOULD: {surprise.picture.key} ({surprise.picture.kind}) ended {surprise.outcome} "
            f"{surprise.reason}"
        )
    good = ledger_code == 0 and failure is None and not surprises and bool(found)
    lake: LakeAnswers | None = None
    if options.lake:
        if options.folder is None:
            decided = await decide(settings, tally)
            screen.step(f"a moderator, who knows how each picture was made, decided on {decided} flagged ones")
        screen.step("waiting until Kafka Connect has brought everything into the lake's tables")
        lake = await ask_lake(environment)
        good = good and lake.agrees
    if options.as_json:
        more = {"lake": lake.counts} if lake is not None else {}
        print(json.dumps({"ok": good, "failure": failure, "place": where, "ledger": found, **tally.summary(), **more}))
    screen.result(ledger or f"the audit gave no ledger (exit code {ledger_code}): {text.strip()[-500:]}", good=good)
    if lake is not None:
        lake.tell(screen)
    _tell_next(tally, options, screen, where)
    return 0 if good else 1


def _ledger(text: str) -> dict[str, Any]:
    """Return the object that `audit --json` printed, or nothing where `text` holds none."""
    for line in text.splitlines():
        if line.startswith("{"):
            found: dict[str, Any] = json.loads(line)
            return found
    return {}


def _ledger_line(found: dict[str, Any]) -> str:
    """Return the ledger as one line, or nothing where there is none."""
    if not found:
        return ""
    more = "".join(f" {name}={found[name]}" for name in ("open_dead_letters", "in_flight") if found.get(name))
    return (
        f"uploads={found['uploads']} outcomes={found['outcomes']} "
        f"lost={found['lost']} duplicated={found['duplicated']}{more}"
    )


async def _score_all(
    options: DemoOptions, settings: Settings, prefix: str, children: Children, tally: Tally, screen: Screen
) -> str | None:
    """Upload everything and follow the outcomes; return None, or why it was given up."""
    codec = Codec()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + options.limit_seconds
    async with TopicFollower(settings.kafka, (PREDICTIONS, FLAGGED)) as follower, Uploader(settings.s3) as uploader:
        uploading = asyncio.create_task(_upload(options, prefix, uploader, tally))
        news_at, seen = loop.time(), 0
        try:
            with screen.progress():
                while not tally.complete:
                    for source in await follower.poll(_POLL_SECONDS):
                        record = codec.decode(source.value)
                        if isinstance(record, (ImagePrediction, FlaggedImage)) and record.bucket == BUCKET:
                            tally.see(record, source.partition, source.offset)
                    screen.show(tally)
                    children.check()
                    if uploading.done():
                        uploading.result()
                    if len(tally.outcomes) != seen:
                        news_at, seen = loop.time(), len(tally.outcomes)
                    if loop.time() - news_at > _SILENCE_SECONDS:
                        return f"no outcome for {_SILENCE_SECONDS:.0f} s; see {shown(children.log_file('score'))}"
                    if loop.time() > deadline:
                        return f"not done after {options.limit_seconds:.0f} s; see {shown(children.log_file('score'))}"
            screen.step(f"all {tally.total} uploads have an outcome")
            # Flags come from moderate, which reads what score has just written.
            await asyncio.wait_for(_catch_flags(settings, follower, codec, tally), _FOLLOWERS_SECONDS)
        except TimeoutError:
            return f"moderate did not catch up; see {shown(children.log_file('moderate'))}"
        finally:
            uploading.cancel()
            await asyncio.gather(uploading, return_exceptions=True)
    return None


async def _catch_flags(settings: Settings, follower: TopicFollower, codec: Codec, tally: Tally) -> None:
    while not await _passed(settings, "moderate", tally):
        pass
    for source in await follower.poll(1.0):
        record = codec.decode(source.value)
        if isinstance(record, FlaggedImage) and record.bucket == BUCKET:
            tally.see(record, source.partition, source.offset)


async def _followers(settings: Settings, tally: Tally, children: Children) -> None:
    """Wait until the index holds everything, so that `explain` finds it."""
    try:
        async with asyncio.timeout(_FOLLOWERS_SECONDS):
            while not await _passed(settings, "index", tally):
                children.check()
    except TimeoutError as error:
        raise StartupRefused(f"index did not catch up; see {shown(children.log_file('index'))}") from error


async def _passed(settings: Settings, agent: str, tally: Tally) -> bool:
    """Whether `agent` has committed past every outcome of ours; waits a moment where it has not."""
    committed = await committed_offsets(settings.kafka, f"sightline.{agent}", PREDICTIONS)
    if all(committed.get(partition, -1) > offset for partition, offset in tally.positions.items()):
        return True
    await asyncio.sleep(_POLL_SECONDS)
    return False


async def _upload(options: DemoOptions, prefix: str, uploader: Uploader, tally: Tally) -> None:
    async def put(picture: Picture) -> None:
        # Before the PUT: its outcome may be there before the PUT has returned.
        tally.upload(picture)
        await uploader.put(BUCKET, picture.key, picture.body)

    pending: set[asyncio.Task[None]] = set()
    try:
        async for picture in _in_thread(_pictures(options, prefix)):
            if len(pending) >= _UPLOADS_AT_ONCE:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            pending.add(asyncio.create_task(put(picture)))
        await asyncio.gather(*pending)
    finally:
        for task in pending:
            task.cancel()


def _pictures(options: DemoOptions, prefix: str) -> Iterator[Picture]:
    if options.folder is not None:
        return folder_pictures(options.images, seed=options.seed, prefix=prefix, folder=options.folder)
    return made_pictures(options.images, seed=options.seed, prefix=prefix, photographs=packaged_photographs())


async def _in_thread(pictures: Iterator[Picture]) -> AsyncIterator[Picture]:
    """Yield pictures that are made one at a time in a thread."""
    while (picture := await asyncio.to_thread(next, pictures, None)) is not None:
        yield picture


def _count(options: DemoOptions) -> int:
    if options.folder is None:
        return options.images
    count = sum(1 for _ in folder_pictures(options.images, seed=options.seed, prefix="", folder=options.folder))
    if count == 0:
        raise StartupRefused(f"no image files below {options.folder}")
    return count


async def _stack_up(options: DemoOptions, environment: Mapping[str, str], screen: Screen, var_dir: Path) -> StackState:
    servers, megabytes = ("Redis, S3 and Kafka Connect", 400) if options.lake else ("Redis and S3", 190)
    screen.step(f"starting Kafka, schema registry, {servers} (a first start downloads about {megabytes} MB)")
    more = (*(("--s3", options.s3) if options.s3 else ()), *(("--lake",) if options.lake else ()))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app", "stack", "up", "--detach", *more),
        env={**environment, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    try:
        async for line in process.stdout:
            text = line.decode(errors="replace").rstrip()
            # Its own clock and the list of endpoints are for `stack status`.
            if text.startswith("["):
                screen.step(text.partition("] ")[2])
            elif text.startswith("sightline:"):
                screen.line(text)
        code = await process.wait()
    except asyncio.CancelledError:
        process.terminate()
        raise
    state = load_state(var_dir)
    if code != 0 or state is None:
        raise StartupRefused(f"the stack did not start (exit code {code}); see {shown(var_dir / 'log' / 'stack.log')}")
    return state


def _beneath(state: StackState, environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in state.environment.items() if name not in environment}


def _asked(options: DemoOptions) -> str:
    if options.folder is not None:
        return f"the pictures of {shown(options.folder)}"
    return f"{options.images} pictures"


def _tell_outcomes(tally: Tally, screen: Screen) -> None:
    screen.title("What became of them")
    screen.line(
        f"{tally.count('scored')} scored, {tally.hits} of them from known scores (the same bytes came before); "
        f"{tally.count('rejected')} rejected; {tally.count('gone')} gone"
    )
    rejections = tally.rejections()
    if rejections:
        screen.line("rejected: " + ", ".join(f"{reason} {count}" for reason, count in rejections.most_common()))
    screen.line(f"{len(tally.flags)} flagged" + ("; for example:" if tally.flags else ""))
    for flag in tally.examples(_EXAMPLES):
        screen.line("")
        screen.line(f"  {flag.key.rpartition('/')[2]}: {flag.action}, severity {flag.severity}")
        for match in flag.rules[:2]:
            screen.line(f"    {match.explanation}")


def _tell_next(tally: Tally, options: DemoOptions, screen: Screen, where: str) -> None:
    screen.title("Try next")
    # A scored one that was flagged has the longest story.
    scored = [key for key, record in tally.outcomes.items() if record.outcome == "scored"]
    told = [flag.key for flag in tally.examples(len(tally.flags)) if flag.key in scored] or scored
    tries = [
        (f"./sightline audit {where}", "count again"),
        ("DEMO_IMAGES=DIR make demo", "with your own pictures"),
    ]
    if options.lake:
        tries.append(("./sightline lake sql 'select outcome, count(*) from predictions group by 1'", "ask the lake"))
        tries.append(("./sightline lake status", "its connectors and tables"))
    if told:
        tries.insert(0, (f"./sightline explain {shlex.quote(f's3://{BUCKET}/{told[0]}')}", "the whole story of one"))
    if options.down:
        screen.line("(the servers end with this demo; run it without --down to ask them afterwards)")
        tries = tries[-1:]
    else:
        tries.append(
            ("./sightline stack down", "the servers still run, so that `explain` can ask them; this ends them")
        )
    for command, meaning in tries:
        screen.line(command)
        screen.line(f"    {meaning}")
    screen.console.print()
