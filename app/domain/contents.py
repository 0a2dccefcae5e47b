"""Stored result for one content (bytes with one sha256): its scores per model version, and their form in a table.

A row holds at most two versions of each model, the newest last. So a rescoring knows the scores that it supersedes, and
a row stays below about 1 KB.
"""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from schemas.records import ImagePrediction, LabelScore, ModelScores, Region, Rendition

# Rows of version 1 are not read. Their scores are those of the first frame, scaled into a square, on white and without
# its colour profile. The row does not say whether that made a difference: a JPEG has one frame, but its profile may
# change all of its colours. So each such content is computed once more at its next upload.
_VERSION: Final = b"\x02"
_VERSIONS_KEPT = 2
# The reason code of a scored picture whose file ends before the picture does.
TRUNCATED_CODE: Final = "file.truncated"
# The only rendition of a picture that is not animated, not transparent and not a strip.
WHOLE: Final = Rendition(0, 0.0, 0.0, 1.0, 1.0, "")


@dataclass(frozen=True, slots=True)
class ContentRow:
    """Stored result for one content. `rendition` of a label in `scores` is an index into `renditions`."""

    format: str
    width: int
    height: int
    scores: tuple[ModelScores, ...]
    frames: int = 1
    truncated: bool = False
    renditions: tuple[Rendition, ...] = (WHOLE,)

    def find(self, model: str, version: str, preprocessing: str) -> ModelScores | None:
        """Return the scores of exactly this model version, marked as cached, or None if they are unknown."""
        for scores in self.scores:
            if (scores.model, scores.version, scores.preprocessing) == (model, version, preprocessing):
                return marked(scores, cached=True)
        return None

    def superseded(self, model: str, version: str, preprocessing: str) -> ModelScores | None:
        """Return the newest scores of the model in another version or preprocessing, or None."""
        for scores in reversed(self.scores):
            if scores.model == model and (scores.version, scores.preprocessing) != (version, preprocessing):
                return marked(scores, cached=True)
        return None

    @property
    def has_embedding(self) -> bool:
        """Return whether one embedding represents the whole content.

        A content with several renditions has none: a head on the embedding of one rendition would ignore the others.
        """
        return len(self.renditions) <= 1


def merged(row: ContentRow | None, computed: ContentRow) -> ContentRow:
    """Return `row` with the scores of `computed`. Scores of the same version are replaced, the oldest versions dropped.

    An empty `format` in `computed` means that nothing was decoded: the facts of the picture then stay those of `row`.
    """
    if row is None:
        return replace(computed, scores=_added((), computed.scores))
    if not computed.format:
        return replace(row, scores=_added(row.scores, computed.scores))
    if row.renditions == computed.renditions:
        return replace(computed, scores=_added(row.scores, computed.scores))
    # The settings of renditions changed in between. Older scores keep the renditions that they came from.
    fresh = {(model.model, model.version, model.preprocessing) for model in computed.scores}
    kept = [model for model in row.scores if (model.model, model.version, model.preprocessing) not in fresh]
    renditions = list(computed.renditions)
    moved = tuple(_moved(model, row.renditions, renditions) for model in kept)
    return replace(computed, scores=_added(moved, computed.scores), renditions=tuple(renditions))


def _moved(scores: ModelScores, before: Sequence[Rendition], renditions: list[Rendition]) -> ModelScores:
    """Return `scores` with rendition indices of `before` replaced by those of `renditions`, to which missing ones are
    appended.
    """
    labels = []
    for label in scores.labels:
        named = before[label.rendition] if label.rendition < len(before) else WHOLE
        if named not in renditions:
            renditions.append(named)
        labels.append(replace(label, rendition=renditions.index(named)))
    return replace(scores, labels=tuple(labels))


def _added(before: Iterable[ModelScores], new: Iterable[ModelScores]) -> tuple[ModelScores, ...]:
    scores = list(before)
    for added in new:
        identity = (added.model, added.version, added.preprocessing)
        scores = [old for old in scores if (old.model, old.version, old.preprocessing) != identity]
        same = [old for old in scores if old.model == added.model]
        for old in same[: max(0, len(same) - _VERSIONS_KEPT + 1)]:
            scores.remove(old)
        scores.append(marked(added, cached=True))
    return tuple(scores)


def marked(scores: ModelScores, *, cached: bool) -> ModelScores:
    """Return `scores` with this value of `cached`. Copies nothing if it has that value: most repeats need no copy."""
    return scores if scores.cached is cached else replace(scores, cached=cached)


def row_of(prediction: ImagePrediction) -> ContentRow | None:
    """Return the row for the bytes of an outcome, or None if the outcome has no scores.

    Also None for an outcome of an older release (`frames` is 0); see `_VERSION` for the reason.
    """
    if not prediction.scores or not prediction.format or prediction.frames == 0:
        return None
    return ContentRow(
        prediction.format,
        prediction.width,
        prediction.height,
        prediction.scores,
        prediction.frames,
        prediction.truncated,
        prediction.renditions or (WHOLE,),
    )


def content_key(sha256: str) -> bytes:
    """Return the table key of a content."""
    return bytes.fromhex(sha256)


def embedding_key(sha256: str, network: str) -> bytes:
    """Return the table key of a content's embedding by `network`."""
    return bytes.fromhex(sha256) + network.encode()


def etag_key(bucket: str, etag: str, size_bytes: int) -> bytes:
    """Return the table key that maps an ETag to a sha256, for buckets with trusted ETags; shorter than a sha256."""
    digest = hashlib.blake2b(f"{bucket}\0{etag}\0{size_bytes}".encode(), digest_size=24)
    return digest.digest()


def encode_row(row: ContentRow) -> bytes:
    """Return the table value of `row`: a version byte and deflated JSON, 300 to 700 bytes for four models."""
    scores = [
        [
            model.model,
            model.version,
            model.preprocessing,
            [
                [label.label, label.value, label.rendition] if label.rendition else [label.label, label.value]
                for label in model.labels
            ],
            [[part.left, part.top, part.right, part.bottom, part.value] for part in model.regions],
            model.skipped,
        ]
        for model in row.scores
    ]
    renditions = [
        [rendition.frame, rendition.left, rendition.top, rendition.right, rendition.bottom, rendition.ground]
        for rendition in row.renditions
    ]
    fields = [row.format, row.width, row.height, scores, row.frames, int(row.truncated), renditions]
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False)
    return _VERSION + zlib.compress(text.encode(), 1)


def decode_row(value: bytes | None) -> ContentRow | None:
    """Return the row in `value`; None if it is absent or of an unreadable version (the content is then recomputed)."""
    if value is None or value[:1] != _VERSION:
        return None
    try:
        format_, width, height, scores, frames, truncated, renditions = json.loads(zlib.decompress(value[1:]))
        looked_at = tuple(_rendition(*rendition) for rendition in renditions)
        models = tuple(_scores(*fields) for fields in scores)
        return ContentRow(format_, width, height, models, frames, bool(truncated), looked_at)
    except (ValueError, TypeError, zlib.error):
        return None


def _rendition(frame: Any, left: Any, top: Any, right: Any, bottom: Any, ground: Any) -> Rendition:
    return Rendition(int(frame), float(left), float(top), float(right), float(bottom), str(ground))


def _scores(
    model: str, version: str, preprocessing: str, labels: list[list[object]], regions: list[list[float]], skipped: str
) -> ModelScores:
    return ModelScores(
        model,
        version,
        preprocessing,
        tuple(
            LabelScore(str(label[0]), float(str(label[1])), int(str(label[2])) if len(label) > 2 else 0)
            for label in labels
        ),
        tuple(Region(*region) for region in regions),
        True,
        skipped,
    )


def reason_codes(
    scores: Iterable[ModelScores], advice: Mapping[tuple[str, str], tuple[float, str]], *, truncated: bool = False
) -> tuple[str, ...]:
    """Return the codes of labels at or over their threshold, in the order of the scores.

    `advice` holds threshold and code by model and label; a label that is absent gives no code. The code of a truncated
    file comes last. A skipped cascade gives no codes: its labels hold its gate's value.
    """
    matched = []
    for model in scores:
        if model.skipped:
            continue
        for label in model.labels:
            threshold, code = advice.get((model.model, label.label), (math.inf, ""))
            if label.value >= threshold:
                matched.append(code)
    if truncated:
        matched.append(TRUNCATED_CODE)
    return tuple(dict.fromkeys(matched))
