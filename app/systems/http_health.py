"""/metrics and /healthz of a process on its own port (aiohttp). The port is written to a JSON file."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from app.errors import StartupRefused

PORT_FILE = "http.json"


class HealthServer:
    """Server for the results of two callables. `health` returns True if the process is healthy, and the details."""

    def __init__(
        self,
        host: str,
        port: int,
        metrics: Callable[[], bytes],
        health: Callable[[], tuple[bool, Mapping[str, Any]]],
    ) -> None:
        self._host = host
        self._port = port
        self._metrics = metrics
        self._health = health
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self, folder: Path | None = None) -> None:
        """Listen; write `http.json` (host, port, pid) into `folder`. Raises StartupRefused when the port is taken."""
        app = web.Application()
        app.router.add_get("/metrics", self._serve_metrics)
        app.router.add_get("/healthz", self._serve_health)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise StartupRefused(
                f"cannot listen on {self._host}:{self._port} for /metrics and /healthz: {error.strerror}; set "
                "SIGHTLINE_WORKER_HTTP_PORT"
            ) from error
        self.port = self._runner.addresses[0][1]
        if folder is not None:
            await asyncio.to_thread(_leave, folder, {"host": self._host, "port": self.port, "pid": os.getpid()})

    async def stop(self) -> None:
        """Close the port."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _serve_metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics(), content_type="text/plain", charset="utf-8")

    async def _serve_health(self, _: web.Request) -> web.Response:
        well, shown = self._health()
        return web.json_response({"healthy": well, **shown}, status=200 if well else 503)


def _leave(folder: Path, facts: Mapping[str, Any]) -> None:
    partial = folder / f"{PORT_FILE}.partial"
    partial.write_text(json.dumps(facts) + "\n")
    partial.replace(folder / PORT_FILE)
