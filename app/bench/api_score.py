"""`bench api`, scoring: POST /v1/score over HTTP against the bare engine on the same pictures, in turn.

The bare loop (app/bench/bare.py) is a process of its own that reads the same pictures from files and scores as many at
once, without HTTP: what is missing to its speed is what the service costs.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Final, Self, cast

from app.bench.lean_http import LeanConnection
from app.bench.photographs import bench_photographs, commented
from app.bench.rig import Report, answer
from app.bench.spread import Spread, rounded, sustained
from app.errors import StartupRefused
from app.settings import ROOT

_AT_ONCE: Final = 16
_ROUNDS: Final = 5
# Ten seconds of a round on two cores; a pair of rounds sees the same machine.
_PICTURES: Final = 240
_WARM_UP: Final = 48
# Known pictures are so much quicker that a round of them needs more requests to last a second.
_KNOWN_PER_PICTURE: Final = 10
_LOADING_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class _Round:
    """One round over HTTP."""

    per_second: float
    milliseconds: tuple[float, ...]
    known: int
    client_seconds: float


async def measure_scoring(url: str, token: str, environment: Mapping[str, str], report: Report) -> dict[str, Any]:
    """Return `score_images_per_second`, `bare_images_per_second`, `score_ratio`, `known_speedup` and what is beside
    them, of the running service at `url` (models loaded, nobody else asking).

    `environment` is that of the bare loop: the service's settings. About two minutes on two cores. Raises
    StartupRefused where something does not answer as it must.
    """
    run = secrets.token_hex(4)
    report(f"scoring: making {_PICTURES} distinct photographs of about 116 KB")
    photographs = list(bench_photographs(_PICTURES, None))
    with TemporaryDirectory(prefix="sightline-bench-") as folder:
        paths = _written(photographs, Path(folder))
        async with _BareLoop(environment) as bare:
            await _loaded(url, token)
            await bare.round(paths[:_WARM_UP])
            await _over_http(url, token, [commented(one, f"{run} warm") for one in photographs[:_WARM_UP]])
            bares, news, knowns = [], [], []
            for number in range(_ROUNDS):
                bares.append(await bare.round(paths))
                bodies = [commented(one, f"{run} {number}") for one in photographs]
                new = await _over_http(url, token, bodies)
                known = await _over_http(url, token, bodies * _KNOWN_PER_PICTURE)
                if new.known or known.known != len(bodies) * _KNOWN_PER_PICTURE:
                    raise StartupRefused(f"{new.known} of the new pictures were known, {known.known} of the known ones")
                news.append(new)
                knowns.append(known)
                report(
                    f"scoring, round {number + 1} of {_ROUNDS}: bare {bares[-1]:.1f}/s, over HTTP "
                    f"{new.per_second:.1f}/s, known {known.per_second:.0f}/s"
                )
    return _figures(bares, news, knowns)


async def _loaded(url: str, token: str) -> None:
    """Return when the service's models are loaded. Raises StartupRefused where they are not in time."""
    deadline = time.monotonic() + _LOADING_SECONDS
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "image/jpeg"}
    async with LeanConnection(url, headers) as connection:
        while (await connection.ask("POST", "/v1/score", b"no picture"))[0] == 503:
            if time.monotonic() > deadline:
                raise StartupRefused(f"{url} scores nothing after {_LOADING_SECONDS:.0f} s")
            await asyncio.sleep(_POLL_SECONDS)


def _figures(bares: Sequence[float], news: Sequence[_Round], knowns: Sequence[_Round]) -> dict[str, Any]:
    figures = {
        "score_ratio": Spread(tuple(new.per_second / bare for new, bare in zip(news, bares, strict=True))),
        "known_speedup": Spread(tuple(k.per_second / n.per_second for k, n in zip(knowns, news, strict=True))),
        "score_images_per_second": Spread(tuple(one.per_second for one in news)),
        "bare_images_per_second": Spread(tuple(bares)),
        "known_per_second": Spread(tuple(one.per_second for one in knowns)),
        "score_p50_ms": Spread(tuple(_at(one, 0.5) for one in news)),
        "score_p95_ms": Spread(tuple(_at(one, 0.95) for one in news)),
        "known_p95_ms": Spread(tuple(_at(one, 0.95) for one in knowns)),
        # The client shares the machine, and what it takes the service cannot have.
        "score_client_cpu_ms_per_image": Spread(tuple(one.client_seconds * 1000 for one in news)),
    }
    result: dict[str, Any] = {}
    for name, spread in figures.items():
        result[name] = rounded(spread.median)
        result[f"{name}_spread"] = spread.as_json()
    return result


def _at(one: _Round, share: float) -> float:
    ordered = sorted(one.milliseconds)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def _written(photographs: Sequence[bytes], folder: Path) -> list[str]:
    paths = []
    for number, body in enumerate(photographs):
        path = folder / f"{number}.jpg"
        path.write_bytes(body)
        paths.append(str(path))
    return paths


async def _over_http(url: str, token: str, bodies: Sequence[bytes]) -> _Round:
    """Send `bodies`, 16 at once, each connection its next when it has its answer."""
    waiting = iter(bodies)
    moments: list[float] = []
    milliseconds: list[float] = []
    known = 0
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "image/jpeg"}

    async def client() -> None:
        nonlocal known
        async with LeanConnection(url, headers) as connection:
            for body in waiting:
                asked = time.monotonic()
                status, told = await connection.ask("POST", "/v1/score", body)
                if status != 200:
                    raise StartupRefused(f"POST /v1/score: {status} {told[:500].decode(errors='replace')}")
                now = time.monotonic()
                moments.append(now)
                milliseconds.append((now - asked) * 1000)
                known += b'"cached":true,"format"' in told

    began = time.process_time()
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(client())
    except* StartupRefused as refused:
        # Sixteen clients of one server say the same.
        raise refused.exceptions[0] from None
    spent = (time.process_time() - began) / len(bodies)
    return _Round(sustained(sorted(moments)), tuple(milliseconds), known, spent)


class _BareLoop:
    """The bare loop's process; use as `async with`, which waits for its models."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        quiet = {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        self._environment = {**environment, **quiet}
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        """Start it."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "app", "bench", "bare"),
            env=self._environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # A round's answer is one line.
            limit=16 * 1024 * 1024,
        )
        await answer(self._process, "what it wrote to standard error")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()

    async def round(self, paths: Sequence[str]) -> float:
        """Return images a second."""
        assert self._process is not None and self._process.stdin is not None
        asked = {"files": list(paths), "in_flight": _AT_ONCE}
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        await self._process.stdin.drain()
        answered = await answer(self._process, "what it wrote to standard error")
        return sustained(cast("list[float]", answered["moments"]))
