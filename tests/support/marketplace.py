"""A small marketplace for the console's tests: photographs with the keys that sellers and their software choose.

What the models say of them is made up; the flags are what the shipped policy makes of that.
"""

from __future__ import annotations

import hashlib
import io
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from app.demo.photographs import packaged_photographs
from app.demo.pictures import made_pictures
from app.domain.identity import image_key
from app.domain.policy import Policy, flag_for
from app.pipeline.dead_letters import POISON, USED_UP, dead_letter
from app.pipeline.moderate import policy_output
from app.ports.records import SourceRecord
from app.systems.registry.avro import Codec
from app.topics import FLAGGED, PREDICTIONS, TASKS, UPLOADS
from schemas.records import FlaggedImage, ImagePrediction, LabelScore, ModelScores, Position, Region, Timings
from tests.support.outcomes import CATEGORY_LABELS, prediction

# Of the 60 pictures, in this order; the rest is not flagged.
BLOCKED: Final = 12
REVIEWED: Final = 15
BROKEN: Final = 4
NOTIFIED: Final = 19
FLAGGED_IMAGES: Final = BLOCKED + REVIEWED + BROKEN + NOTIFIED
PICTURES: Final = 60
# The browser must show each of these as it is written and do nothing else with it.
ODD_KEYS: Final = (
    "listings/a b/größe 50% & mehr.jpg",
    "listings/#1?x=%2F&y=+.jpg",
    "listings/\"quoted\" 'twice'.jpg",
    "listings/<img src=x onerror=document.title='owned'>.jpg",
    "listings//double//slash/.jpg",
    "listings/</script><b>bold.jpg",
    "listings/../dots/./..%2e.jpg",
    "listings/日本/写真 1.jpg",
)
_OFFERS: Final = ("CALL 555-0148", "www.example.com", "SALE -50%", "WhatsApp 555 0199", "2 for 1")
_SHOPS: Final = ("atelier-nord", "second-round", "kleiderei", "harbour-vintage", "maple-and-co")
_QUALITY: Final = ("blurry", "dark", "overexposed", "noisy", "overcompressed", "low_contrast", "low_resolution")
_KINDS: Final = ("plain", "turned", "tilted", "blurred", "dark", "noisy", "overcompressed")
_DEFECT_OF_KIND: Final = {"blurred": "blurry", "dark": "dark", "noisy": "noisy", "overcompressed": "overcompressed"}
_WIRE: Final = Codec()
_NOBODY: Final = Position("image.predictions.v1", 0, 0)
_HEX_ORDER: Final = 12

Wire = tuple[str, bytes, bytes, int]


@dataclass(frozen=True, slots=True)
class Listing:
    """One upload: its bytes, its outcome and its flag. `body` is None where the store never held it."""

    outcome: ImagePrediction
    flag: FlaggedImage | None
    body: bytes

    @property
    def key(self) -> str:
        """The object's key."""
        return self.outcome.key


def listings(bucket: str, policy: Policy, now_ms: int | None = None, seed: int = 7) -> list[Listing]:
    """Return the 60 uploads of the last minutes. Equal arguments give equal ones; takes some 2 s of CPU."""
    generator = random.Random(seed)
    now_ms = _now_ms() if now_ms is None else now_ms
    found = []
    for number, (kind, body, regions) in enumerate(_pictures(generator)):
        event_ms = now_ms - 280_000 + number * 4_400 + generator.randrange(900)
        outcome = _outcome(bucket, _key(number, generator), number, kind, body, regions, event_ms, generator)
        found.append(Listing(outcome, flag_for(policy, outcome, _NOBODY, outcome.scored_at_ms + 15), body))
    return found


def wires(made: Sequence[Listing], policy: Policy) -> Iterator[Wire]:
    """Yield what the agents would have published: topic, key, value and time."""
    archived = policy_output(policy, "moderate-0", made[0].outcome.scored_at_ms)
    yield archived.topic, archived.key or b"", _WIRE.encode(archived.record), made[0].outcome.scored_at_ms
    for listing in made:
        one = listing.outcome
        name = image_key(one.bucket, one.key)
        yield PREDICTIONS, name, _WIRE.encode(one), one.scored_at_ms
        if listing.flag is not None:
            yield FLAGGED, name, _WIRE.encode(listing.flag), listing.flag.decided_at_ms


def traffic(bucket: str, policy: Policy, count: int, seconds: int = 290, seed: int = 11) -> Iterator[Wire]:
    """Yield `count` outcomes of everyday uploads of the last `seconds`, a third of known bytes; no pictures."""
    generator = random.Random(seed)
    now_ms = _now_ms()
    for number in range(count):
        scored_ms = now_ms - round(seconds * 1000 * (1 - number / count))
        waited_ms = round(generator.lognormvariate(6.1, 0.5))
        cached = generator.random() < 0.31
        outcome = _outcome(
            bucket, f"traffic/{number:06d}.jpg", 1000 + number, "plain", b"", (), scored_ms - waited_ms, generator
        )
        outcome = replace(outcome, cached=cached, scored_at_ms=scored_ms)
        if generator.random() < 0.05:
            reason = generator.choice(("undecodable", "truncated", "unsupported_format", "empty", "too_many_pixels"))
            outcome = replace(
                outcome, outcome="rejected", reason=reason, cached=False, scores=(), reasons=(), width=0, height=0
            )
        name = image_key(outcome.bucket, outcome.key)
        yield PREDICTIONS, name, _WIRE.encode(outcome), scored_ms


def letters(bucket: str) -> Iterator[Wire]:
    """Yield two dead letters of the last hour."""
    now_ms = _now_ms()
    for number, (agent, reason, detail, topic) in enumerate(
        (
            ("identify", "unreadable_event", "the body is no JSON: unexpected end of data", UPLOADS),
            ("score", "store_unavailable", "no answer in 5 attempts", TASKS),
        )
    ):
        source = SourceRecord(topic, number, 40 + number, now_ms - 2_000_000, None, b'{"Records":[')
        letter = dead_letter(
            source,
            agent=agent,
            kind=POISON if agent == "identify" else USED_UP,
            reason=reason,
            detail=detail,
            now_ms=now_ms - 1_900_000 + number * 600_000,
            bucket=bucket if agent == "score" else None,
            object_key="listings/harbour-vintage/204418/photo-2.jpg" if agent == "score" else None,
        )
        yield letter.topic, letter.key or b"", _WIRE.encode(letter.record), now_ms


def photograph(seed: int) -> bytes:
    """Return a JPEG that is none of the listings."""
    makes = made_pictures(40, seed=seed, prefix="", photographs=packaged_photographs())
    return next(one.body for one in makes if one.kind == "plain")


def offer(seed: int) -> bytes:
    """Return a photograph with a telephone number written over it."""
    return _written(photograph(seed), "CALL 555-0148", 0.62)[0]


def _pictures(generator: random.Random) -> Iterator[tuple[str, bytes, tuple[Region, ...]]]:
    makes = made_pictures(200, seed=generator.randrange(999), prefix="", photographs=packaged_photographs())
    good = (one for one in makes if one.kind in _KINDS and one.repeats is None)
    for number, made in enumerate(islice(good, PICTURES)):
        if _is_broken(number):
            yield "too_many_pixels", made.body[: len(made.body) // 3], ()
        elif _is_notified(number):
            body, region = _written(made.body, generator.choice(_OFFERS), generator.uniform(0.12, 0.7))
            yield "written-on", body, (region,)
        else:
            yield made.kind, made.body, ()


def _is_broken(number: int) -> bool:
    return BLOCKED + REVIEWED <= number < BLOCKED + REVIEWED + BROKEN


def _is_notified(number: int) -> bool:
    return FLAGGED_IMAGES - NOTIFIED <= number < FLAGGED_IMAGES


def _written(body: bytes, words: str, height: float) -> tuple[bytes, Region]:
    with Image.open(io.BytesIO(body)) as opened:
        picture = opened.convert("RGB")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=max(18.0, picture.width * 0.075))
    at = (picture.width * 0.08, picture.height * height)
    draw.text(at, words, font=font, fill=(255, 255, 255), stroke_width=3, stroke_fill=(20, 20, 20))
    left, top, right, bottom = draw.textbbox(at, words, font=font, stroke_width=3)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88)
    width, height_pixels = picture.size
    sides = (left / width, top / height_pixels, right / width, bottom / height_pixels)
    left, top, right, bottom = (min(1.0, max(0.0, side)) for side in sides)
    return buffer.getvalue(), Region(left, top, right, bottom, 0.93)


def _key(number: int, generator: random.Random) -> str:
    # Spread, so that odd ones are among the blocked, the reviewed and the notified.
    if number % 6 == 1 and number // 6 < len(ODD_KEYS):
        return ODD_KEYS[number // 6]
    return f"listings/{generator.choice(_SHOPS)}/{generator.randrange(10**5, 10**6)}/photo-{number % 4 + 1}.jpg"


def _outcome(
    bucket: str,
    key: str,
    number: int,
    kind: str,
    body: bytes,
    regions: tuple[Region, ...],
    event_ms: int,
    generator: random.Random,
) -> ImagePrediction:
    scored_ms = event_ms + 240 + generator.randrange(700)
    width, height = _size(body) if body else (1024, 768)
    nsfw = _nsfw(number, generator)
    changes: dict[str, object] = {}
    if kind == "too_many_pixels":
        changes = {
            "outcome": "rejected",
            "reason": "too_many_pixels",
            "detail": "the header says 30000 x 30000 pixels",
            "scores": (),
            "width": 30_000,
            "height": 30_000,
        }
    else:
        defect = _DEFECT_OF_KIND.get(kind)
        reasons = ([f"quality.{defect}"] if defect else []) + (["content.embedded_text"] if regions else [])
        changes = {"scores": _scores(nsfw, defect, regions, generator), "reasons": tuple(reasons)}
    return prediction(
        bucket=bucket,
        key=key,
        order=number,
        etag=hashlib.md5(body, usedforsecurity=False).hexdigest(),
        sha256=hashlib.sha256(body or key.encode()).hexdigest(),
        size_bytes=len(body) or 180_000,
        **{"format": "jpeg", "width": width, "height": height, **changes},
        sequencer=f"{event_ms:0{_HEX_ORDER}X}{number:04X}",
        order_key=f"{event_ms:0{_HEX_ORDER}X}{number:04X}".ljust(32, "0"),
        event_time_ms=event_ms,
        identified_at_ms=event_ms + 30 + generator.randrange(60),
        scored_at_ms=scored_ms,
        timings=Timings(
            *(generator.randrange(low, high) for low, high in ((20, 120), (3, 14), (4, 12), (40, 160), (90, 300)))
        ),
        worker="score-0",
    )


def _nsfw(number: int, generator: random.Random) -> float:
    if number < BLOCKED:
        return generator.uniform(0.955, 0.995)
    if number < BLOCKED + REVIEWED:
        return generator.uniform(0.81, 0.94)
    return generator.uniform(0.004, 0.12)


def _scores(
    nsfw: float, defect: str | None, regions: tuple[Region, ...], generator: random.Random
) -> tuple[ModelScores, ...]:
    quality = {name: generator.uniform(0.01, 0.24) for name in _QUALITY}
    if defect:
        quality[defect] = generator.uniform(0.62, 0.93)
    # As the model has it: the chance that nothing is wrong, with the worst of the defects.
    quality["overall"] = 1 - max(quality.values())
    guesses = [generator.random() ** 4 for _ in CATEGORY_LABELS]
    category = {name: guess / sum(guesses) for name, guess in zip(CATEGORY_LABELS, guesses, strict=True)}
    text = generator.uniform(0.55, 0.97) if regions else generator.uniform(0.0, 0.12)
    return (
        _said("nsfw", "open-nsfw-2", {"nsfw": nsfw}),
        _said("category", "resized-224", category),
        _said("quality", "resized-224", quality),
        replace(_said("embedded_text", "ppocr-1", {"text": text}), regions=regions),
    )


def _said(model: str, preprocessing: str, labels: dict[str, float]) -> ModelScores:
    found = tuple(LabelScore(label, round(value, 4)) for label, value in labels.items())
    return ModelScores(model, "1", preprocessing, found, (), cached=False, skipped="")


def _size(body: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(body)) as opened:
        width, height = opened.size
        return (height, width) if opened.getexif().get(0x0112, 1) in (5, 6, 7, 8) else (width, height)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
