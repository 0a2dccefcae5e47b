"""Faults that a decoder may cause in its process; each costs one picture."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import psutil
import pytest
import pytest_asyncio

from app.domain.images import Rejection, RejectReason
from app.inference.budget import Ticket
from app.inference.decoding.pool import DecodePool
from app.inference.decoding.process import PreparedImage
from app.inference.decoding.protocol import Job, PrepareJob, ThumbnailJob
from app.settings import InferenceSettings, LimitSettings
from tests.support.decoding.hostile import NAME
from tests.support.eventually import eventually
from tests.support.pictures import encoded, jpeg, noise
from tests.support.toy_models import INPUT, WIDE_INPUT

MEBIBYTE = 1024 * 1024
LIMITS = LimitSettings(decode_seconds=3.0)
INFERENCE = InferenceSettings(decode_processes=2, decode_memory_bytes=128 * MEBIBYTE)
THUMBNAIL = ThumbnailJob(32, 80)
PREPARE = PrepareJob((INPUT, WIDE_INPUT), 32, 5, 0, 16)


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[DecodePool]:
    made = DecodePool(LIMITS, INFERENCE, work=NAME)
    yield made
    children = _children()
    await made.close()
    await eventually(lambda: not any(child.is_running() for child in children))


def _children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "child_start" in " ".join(child.cmdline())]


async def _rejected(pool: DecodePool, order: str) -> Rejection:
    found = (await pool.run(order.encode(), THUMBNAIL, Ticket())).result
    assert isinstance(found, Rejection), found
    return found


async def _works(pool: DecodePool, job: Job = THUMBNAIL) -> None:
    found = (await pool.run(jpeg((250, 0, 0)), job, Ticket())).result
    assert not isinstance(found, Rejection), found


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGKILL"])
async def test_a_decoder_that_kills_its_process_costs_one_picture(pool: DecodePool, name: str) -> None:
    dying = asyncio.create_task(_rejected(pool, f"!die {name}"))
    await asyncio.gather(*(_works(pool) for _ in range(4)), *(_works(pool, PREPARE) for _ in range(4)))
    found = await dying
    assert found.reason is RejectReason.DECODER_CRASHED and name in found.detail
    assert pool.counts.crashed == 2, "one more child tried it: the first might have died of something else"
    await _works(pool)


async def test_a_decoder_that_is_killed_from_outside_costs_nothing(pool: DecodePool) -> None:
    await _works(pool)
    await eventually(lambda: len(_children()) == 3)
    victims = _children()
    for child in victims:
        child.send_signal(signal.SIGKILL)
    await eventually(lambda: not any(_alive(child) for child in victims))
    await asyncio.gather(*(_works(pool) for _ in range(4)))
    assert pool.counts.crashed == 0


@pytest.mark.parametrize("order", ["!hang", "!spin"])
async def test_a_decoder_that_hangs_is_killed_at_the_deadline_and_neighbours_go_on(
    pool: DecodePool, order: str
) -> None:
    slow = asyncio.create_task(pool.run(order.encode(), THUMBNAIL, Ticket()))
    for _ in range(5):
        await _works(pool)
    assert not slow.done()
    found = (await slow).result
    assert isinstance(found, Rejection) and found.reason is RejectReason.DECODE_TIMEOUT
    assert pool.counts.timed_out == 1 and pool.counts.crashed == 0
    await _works(pool)


async def test_two_bombs_at_once_hold_up_the_next_picture_for_one_deadline_at_most(pool: DecodePool) -> None:
    loop = asyncio.get_running_loop()
    await _works(pool)
    bombs = [asyncio.create_task(pool.run(b"!spin", THUMBNAIL, Ticket())) for _ in range(2)]
    await eventually(lambda: pool.waiting == 0)
    began, late = loop.time(), 0.0
    waiting = asyncio.create_task(_works(pool))
    while not waiting.done():
        before = loop.time()
        await asyncio.sleep(0.005)
        late = max(late, loop.time() - before - 0.005)
    # In deadlines, not in seconds: a child that is ready takes over, so nobody waits for a start.
    assert loop.time() - began < 2 * LIMITS.decode_seconds
    assert late < LIMITS.decode_seconds / 4, "the event loop went on"
    for bomb in bombs:
        assert isinstance((await bomb).result, Rejection)


async def test_memory_beyond_the_limit_is_refused_to_a_decoder(pool: DecodePool) -> None:
    found = await _rejected(pool, f"!eat {1024 * MEBIBYTE}")
    assert found.reason is RejectReason.TOO_MUCH_MEMORY
    assert "got" in (await _rejected(pool, f"!eat {100 * MEBIBYTE}")).detail
    assert pool.counts.crashed == 0


async def test_a_decoder_has_no_network(pool: DecodePool) -> None:
    accepted: list[object] = []
    server = await asyncio.start_server(lambda *both: accepted.append(both), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        found = await _rejected(pool, f"!connect 127.0.0.1:{port}")
    assert found.detail.startswith("refused") and not accepted


async def test_a_decoder_has_no_credentials_and_starts_no_program(
    pool: DecodePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
    environment = (await _rejected(pool, "!read /proc/self/environ")).detail
    assert "PATH=" in environment and "hush-hush" not in environment
    assert (await _rejected(pool, "!run /bin/true")).detail == "ran: 127", "no program starts"


async def test_a_decoder_that_lies_about_its_answer_is_replaced(pool: DecodePool) -> None:
    found = await _rejected(pool, "!lie")
    assert found.reason is RejectReason.DECODER_CRASHED and "impossible answer" in found.detail
    await _works(pool)


async def test_a_decoder_that_asks_for_memory_again_and_again_waits_for_nobody(pool: DecodePool) -> None:
    """Two that held half and asked for more would wait for each other, and all pictures after them."""
    order = f"!ask {100 * MEBIBYTE} {100 * MEBIBYTE}"
    for found in await asyncio.gather(*(_rejected(pool, order) for _ in range(2))):
        assert found.reason is RejectReason.DECODER_CRASHED and "twice" in found.detail
    await _works(pool)


async def test_a_caller_that_goes_away_leaves_the_pool_whole(pool: DecodePool) -> None:
    await _works(pool)
    leaving = [asyncio.create_task(pool.run(b"!spin", THUMBNAIL, Ticket())) for _ in range(4)]
    await eventually(lambda: pool.waiting == 2)
    for task in leaving:
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    await asyncio.gather(*(_works(pool) for _ in range(4)))


async def test_inputs_come_back_as_they_were_made(pool: DecodePool) -> None:
    """By shared memory, several at once and large ones between: nobody gets a neighbour's pixels."""
    bodies = [encoded(noise(seed, (300, 200)), "PNG") for seed in range(12)]
    large = encoded(noise(99, (3000, 900)), "PNG")

    async def prepared(body: bytes) -> PreparedImage:
        found = await pool.run(body, PREPARE, Ticket())
        assert isinstance(found.result, PreparedImage)
        found.release()
        return found.result

    alone = [await prepared(body) for body in bodies]
    together = await asyncio.gather(*(prepared(body) for body in [*bodies, large]))
    for one, other in zip(alone, together, strict=False):
        for mine, theirs in zip(one.inputs[0], other.inputs[0], strict=True):
            assert (mine.pixels == theirs.pixels).all()
    assert len(together[-1].inputs) == 6, "a strip: itself and its squares"
    assert len({one.inputs[0][1].pixels.tobytes() for one in alone}) == len(bodies)


async def test_children_end_with_their_parent(tmp_path: os.PathLike[str]) -> None:
    """Also one that is at work when its parent is killed."""
    script = (
        "import asyncio\n"
        "from app.inference.budget import Ticket\n"
        "from app.inference.decoding.pool import DecodePool\n"
        "from tests.support.decoding.hostile import NAME\n"
        "from tests.fault.test_decoders import INFERENCE, LIMITS, THUMBNAIL\n"
        "async def main():\n"
        "    pool = DecodePool(LIMITS, INFERENCE, work=NAME)\n"
        "    await pool.run(b'!read /dev/null', THUMBNAIL, Ticket())\n"
        "    print('ready', flush=True)\n"
        "    await pool.run(b'!spin', THUMBNAIL, Ticket())\n"
        "asyncio.run(main())\n"
    )
    import sys

    from app.settings import ROOT

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, cwd=ROOT, stdout=asyncio.subprocess.PIPE, env={"PYTHONPATH": str(ROOT)}
    )
    assert process.stdout is not None and await process.stdout.readline() == b"ready\n"
    children = psutil.Process(process.pid).children()
    assert children
    process.kill()
    await process.wait()
    await eventually(lambda: not any(_alive(child) for child in children))


def _alive(child: psutil.Process) -> bool:
    return child.is_running() and child.status() != psutil.STATUS_ZOMBIE
