"""What the demo says to try next: the console first."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from app.demo.screen import Screen, shown
from app.demo.tally import Tally
from app.stack.user_key import key_file, read_key

BUCKET: Final = "images"


@dataclass(frozen=True, slots=True)
class Service:
    """Where the API answers, and the folder of the stack that keeps its user's key."""

    url: str
    var_dir: Path

    @property
    def console(self) -> str:
        """The console's address, with the key that signs in: a fragment, which no browser sends to a server."""
        key = read_key(self.var_dir)
        return f"{self.url}/console" + (f"#key={key}" if key else "")

    def curl(self, key: str) -> str:
        """Return a command that asks for one image; the key of the API comes from its file."""
        header = f'-H "Authorization: Bearer $(cat {shlex.quote(shown(key_file(self.var_dir)))})"'
        return f"curl -s {header} {shlex.quote(f'{self.url}/v1/images/{BUCKET}/{quote(key)}')}"


def tell_next(tally: Tally, screen: Screen, where: str, service: Service | None, *, lake: bool) -> None:
    """Print commands that work now, and what each is for; `service` is None when the servers end with the demo."""
    screen.title("Try next")
    own_pictures = ("DEMO_IMAGES=DIR make demo", "with your own pictures")
    tries = [own_pictures]
    if service is None:
        screen.line("(the servers end with this demo; run it without --down to ask them afterwards)")
    else:
        told = _told(tally)
        tries = [
            (service.console, "the console: decide on the flagged pictures, search for one, watch the pipeline"),
            *([(service.curl(told), "one image by HTTP")] if told else []),
            *([(f"./sightline explain {shlex.quote(f's3://{BUCKET}/{told}')}", "its whole story")] if told else []),
            (f"./sightline audit {where}", "count again"),
            own_pictures,
        ]
        if lake:
            tries += [
                ("./sightline lake sql 'select outcome, count(*) from predictions group by 1'", "ask the lake"),
                ("./sightline lake status", "its connectors and tables"),
            ]
        tries.append(("./sightline stack down", "all of it still runs, new uploads are scored; this ends it"))
    for command, meaning in tries:
        screen.line(command)
        screen.line(f"    {meaning}")
    screen.console.print()


def _told(tally: Tally) -> str | None:
    """Return the key of an image with a story: a scored one that was flagged has the longest."""
    scored = [key for key, record in tally.outcomes.items() if record.outcome == "scored"]
    flagged = [flag.key for flag in tally.examples(len(tally.flags)) if flag.key in scored]
    return next(iter(flagged or scored), None)
