"""The report of `./sightline score --report`: one HTML file with everything in it."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from app.inference.budget import Ticket
from app.inference.decoding.pool import Decoding
from app.inference.decoding.protocol import ThumbnailJob
from app.scoring.files import FileScore

_TEMPLATE: Final = Path(__file__).parent / "templates" / "score_report.html.jinja"
_THUMBNAIL_PIXELS: Final = 320
_QUALITY: Final = 78
# 1,000 thumbnails of some 12 KB make a file that every browser opens at once.
MAX_PICTURES: Final = 1000
_SHOWN_LABELS: Final = 3


@dataclass(frozen=True, slots=True)
class ModelNote:
    """What the report says of one model."""

    name: str
    version: str
    labels: int
    advice: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ReportFacts:
    """What the whole run was."""

    title: str
    models: tuple[ModelNote, ...]
    device: str
    policy: str
    seconds: float
    made_at: str


async def thumbnail(decoding: Decoding, content: bytes) -> bytes | None:
    """Return a small JPEG of the upright picture, None for what does not decode."""
    found = (await decoding.run(content, ThumbnailJob(_THUMBNAIL_PIXELS, _QUALITY), Ticket())).result
    return found if isinstance(found, bytes) else None


class Report:
    """Gathers results, then renders. Keeps thumbnails of the first MAX_PICTURES pictures, and counts of all."""

    def __init__(self) -> None:
        self._cards: list[dict[str, Any]] = []
        self._outcomes: Counter[str] = Counter()
        self._actions: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()

    @property
    def wants_pictures(self) -> bool:
        """Whether another thumbnail would be shown."""
        return len(self._cards) < MAX_PICTURES

    def add(self, found: FileScore, thumbnail: bytes | None) -> None:
        """Take one result in."""
        self._outcomes[found.outcome] += 1
        if found.action:
            self._actions[found.action] += 1
        for reason in (found.reason, *found.reasons):
            if reason:
                self._reasons[reason] += 1
        if self.wants_pictures:
            self._cards.append(_card(found, thumbnail))

    def render(self, facts: ReportFacts) -> str:
        """Return the page."""
        import jinja2

        environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
        template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
        advice = {code: text for model in facts.models for code, text in model.advice.items()}
        total = sum(self._outcomes.values())
        return template.render(
            facts=facts,
            cards=self._cards,
            outcomes=self._outcomes.most_common(),
            actions=self._actions.most_common(),
            reasons=self._reasons.most_common(),
            advice=advice,
            total=total,
            hidden=total - len(self._cards),
            rate=total / facts.seconds if facts.seconds > 0 else 0.0,
        )


def _card(found: FileScore, thumbnail: bytes | None) -> dict[str, Any]:
    models = []
    boxes = []
    for one in found.scores:
        labels = sorted(one.labels, key=lambda label: -label.value)
        models.append(
            {
                "name": one.model,
                "labels": [(label.label, label.value) for label in labels[:_SHOWN_LABELS]],
                "more": max(0, len(labels) - _SHOWN_LABELS),
                "skipped": one.skipped,
            }
        )
        boxes += [
            {
                "left": part.left * 100,
                "top": part.top * 100,
                "width": max(0.0, part.right - part.left) * 100,
                "height": max(0.0, part.bottom - part.top) * 100,
            }
            for part in one.regions
        ]
    return {
        "name": _printable(found.name),
        "folder": _printable(Path(found.name).parent.name),
        "short": _printable(Path(found.name).name or found.name),
        "outcome": found.outcome,
        "reason": found.reason,
        "detail": _printable(found.detail),
        "size": f"{found.width} × {found.height}" if found.width else "",
        "format": found.format,
        "bytes": found.size_bytes,
        "sha256": found.sha256 or "",
        "models": models,
        "boxes": boxes,
        "reasons": found.reasons,
        "action": found.action,
        "flags": found.flags,
        "thumbnail": base64.b64encode(thumbnail).decode() if thumbnail else "",
    }


def _printable(text: str) -> str:
    """Return `text` with what is no character (bytes of odd file names) written out."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def model_notes(manifests: Iterable[Any]) -> tuple[ModelNote, ...]:
    """Return the notes of loaded models."""
    return tuple(
        ModelNote(one.name, one.version, len(one.labels), {why.code: why.advice for why in one.reasons.values()})
        for one in manifests
    )
