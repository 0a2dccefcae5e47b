"""The demo's course: servers and agents up, pictures in, outcomes counted, the ledger, and what to try next."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from app.demo.lake import LakeAnswers, ask_lake, decide
from app.demo.next_steps import BUCKET, Service, tell_next
from app.demo.photographs import packaged_photographs
from app.demo.pictures import Picture, folder_pictures, made_pictures
from app.demo.screen import Screen, shown
from app.demo.servers import DemoStack
from app.demo.tally import Tally
from app.errors import StartupRefused
from app.exit_codes import ExitCode
from app.ports.records import SourceRecord
from app.ports.topics import Follower, of_topic
from app.settings import Settings, load_settings
from app.stack.state import StackState
from app.stack.verbs import run_verb, told_object
from app.systems.kafka.groups import KafkaGroups
from app.systems.kafka.topic_log import KafkaTopicLog
from app.systems.registry.avro import Codec
from app.systems.s3.put import Uploader
from app.topics import FLAGGED, PREDICTIONS, group_of
from schemas.records import FlaggedImage, ImagePrediction

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

    Raises StartupRefused when something cannot start, or ends for good. The stack goes on running with its agents;
    one that was started here ends with the demo when `down` is set, or when the demo fails or is interrupted.
    """
    screen = Screen(on_stderr=options.as_json)
    var_dir = load_settings(environment).stack.var_dir.resolve()
    screen.title(f"Sightline demo: {_asked(options)} through the whole pipeline, on real servers on this machine")
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    stack = DemoStack(environment, screen, var_dir)
    kept = False
    try:
        state = await stack.begin(options.s3, lake=options.lake)
        code = await _run(options, {**environment, **_beneath(state, environment)}, screen, stack, state.api_url or "")
        kept = not options.down
        return code
    except asyncio.CancelledError:
        screen.line("interrupted; everything that the demo started is being ended")
        return ExitCode.INTERRUPTED
    finally:
        if not kept:
            await stack.end()


async def _run(
    options: DemoOptions, environment: Mapping[str, str], screen: Screen, stack: DemoStack, api_url: str
) -> int:
    settings = load_settings(environment)
    prefix = time.strftime("demo/%Y%m%d-%H%M%S/", time.gmtime())
    screen.step("uploading; scoring begins when the models are loaded and checked")
    tally = Tally(_count(options))
    failure = await _score_all(options, settings, prefix, stack, tally, screen)
    if failure is None:
        await _followers(settings, tally, stack)
        await stack.ready()
    if failure is not None:
        screen.line(f"NOT COMPLETE: {failure}")
    _tell_outcomes(tally, screen)
    where = f"s3://{BUCKET}/{prefix}"
    ledger_code, text = await run_verb(environment, "audit", where, "--json")
    found = told_object(text)
    ledger = _ledger_line(found)
    surprises = tally.surprises()
    for surprise in surprises[:5]:
        screen.line(
            f"NOT AS IT SHOULD: {surprise.picture.key} ({surprise.picture.kind}) ended {surprise.outcome} "
            f"{surprise.reason}"
        )
    good = ledger_code == ExitCode.OK and failure is None and not surprises and bool(found)
    lake: LakeAnswers | None = None
    if options.lake:
        if options.folder is None:
            decided = await decide(settings, tally)
            screen.step(f"a moderator, who knows how each picture was made, decided on {decided} flagged ones")
        screen.step("waiting until Kafka Connect has brought everything into the lake's tables")
        lake = await ask_lake(environment)
        good = good and lake.agrees
    service = None if options.down and stack.mine else Service(api_url, settings.stack.var_dir.resolve())
    if options.as_json:
        more = {"lake": lake.counts} if lake is not None else {}
        told = {"ok": good, "failure": failure, "place": where, "ledger": found, **tally.summary(), **more}
        print(json.dumps({**told, "console": service.console if service is not None else None}))
    screen.result(ledger or f"the audit gave no ledger (exit code {ledger_code}): {text.strip()[-500:]}", good=good)
    if lake is not None:
        lake.tell(screen)
    tell_next(tally, screen, where, service, lake=options.lake)
    return ExitCode.of_check(good)


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
    options: DemoOptions, settings: Settings, prefix: str, stack: DemoStack, tally: Tally, screen: Screen
) -> str | None:
    """Upload everything and follow the outcomes; return None, or why it was given up."""
    codec = Codec()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + options.limit_seconds
    async with (
        KafkaTopicLog(settings.kafka).follow((PREDICTIONS, FLAGGED)) as follower,
        Uploader(settings.s3) as uploader,
    ):
        uploading = asyncio.create_task(_upload(options, prefix, uploader, tally))
        news_at, seen = loop.time(), 0
        try:
            with screen.progress():
                while not tally.complete:
                    _see(await follower.poll(_POLL_SECONDS), codec, tally)
                    screen.show(tally)
                    stack.check()
                    if uploading.done():
                        uploading.result()
                    if len(tally.outcomes) != seen:
                        news_at, seen = loop.time(), len(tally.outcomes)
                    if loop.time() - news_at > _SILENCE_SECONDS:
                        return f"no outcome for {_SILENCE_SECONDS:.0f} s; see {stack.log_file('score')}"
                    if loop.time() > deadline:
                        return f"not done after {options.limit_seconds:.0f} s; see {stack.log_file('score')}"
            screen.step(f"all {tally.total} uploads have an outcome")
            # Flags come from moderate, which reads what score has just written.
            async with asyncio.timeout(_FOLLOWERS_SECONDS):
                await _catch_flags(settings, follower, codec, tally)
        except TimeoutError:
            return f"moderate did not catch up; see {stack.log_file('moderate')}"
        finally:
            uploading.cancel()
            await asyncio.gather(uploading, return_exceptions=True)
    return None


async def _catch_flags(settings: Settings, follower: Follower, codec: Codec, tally: Tally) -> None:
    while not await _passed(settings, "moderate", tally):
        pass
    await follower.aim()
    while not await follower.caught_up():
        _see(await follower.poll(_POLL_SECONDS), codec, tally)


def _see(sources: Iterable[SourceRecord], codec: Codec, tally: Tally) -> None:
    for source in sources:
        record = codec.decode(source.value)
        if isinstance(record, (ImagePrediction, FlaggedImage)) and record.bucket == BUCKET:
            tally.see(record, source.partition, source.offset)


async def _followers(settings: Settings, tally: Tally, stack: DemoStack) -> None:
    """Wait until the index holds everything, so that `explain` finds it."""
    try:
        async with asyncio.timeout(_FOLLOWERS_SECONDS):
            while not await _passed(settings, "index", tally):
                stack.check()
    except TimeoutError as error:
        raise StartupRefused(f"index did not catch up; see {stack.log_file('index')}") from error


async def _passed(settings: Settings, agent: str, tally: Tally) -> bool:
    """Whether `agent` has committed past every outcome of ours; waits a moment where it has not."""
    group = group_of(agent)
    committed = of_topic((await KafkaGroups(settings.kafka).committed((group,)))[group], PREDICTIONS)
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
    screen.line(f"{tally.publishable} publishable: scored and not blocked")
    screen.line(f"{len(tally.flags)} flagged" + ("; for example:" if tally.flags else ""))
    for flag in tally.examples(_EXAMPLES):
        screen.line("")
        screen.line(f"  {flag.key.rpartition('/')[2]}: {flag.action}, severity {flag.severity}")
        for match in flag.rules[:2]:
            screen.line(f"    {match.explanation}")
