"""What is known of one content (the bytes with one sha256): scores per model version, and how it is kept in a table.

A row holds at most two versions of each model, the newest written last, so that a rescoring knows what it supersedes
and a row stays below some 1 KB.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from schemas.records import ImagePrediction, LabelScore, ModelScores, Region

CONTENTS_TABLE = "contents"
EMBEDDINGS_TABLE = "embeddings"
_VERSION = b"\x01"
_VERSIONS_KEPT = 2


@dataclass(frozen=True, slots=True)
class ContentRow:
    """What is known of one content."""

    format: str
    width: int
    height: int
    scores: tuple[ModelScores, ...]

    def find(self, model: str, version: str, preprocessing: str) -> ModelScores | None:
        """Return the scores of exactly that model version, marked as cached; None where they are not known."""
        for scores in self.scores:
            if (scores.model, scores.version, scores.preprocessing) == (model, version, preprocessing):
                return replace(scores, cached=True)
        return None

    def superseded(self, model: str, version: str, preprocessing: str) -> ModelScores | None:
        """Return the newest scores of the model in another version or preprocessing, or None."""
        for scores in reversed(self.scores):
            if scores.model == model and (scores.version, scores.preprocessing) != (version, preprocessing):
                return replace(scores, cached=True)
        return None


def merged(row: ContentRow | None, format_: str, width: int, height: int, new: Iterable[ModelScores]) -> ContentRow:
    """Return `row` with `new` scores; those of the same version are replaced, the oldest versions dropped."""
    scores = list(row.scores) if row is not None else []
    for one in new:
        identity = (one.model, one.version, one.preprocessing)
        scores = [old for old in scores if (old.model, old.version, old.preprocessing) != identity]
        same = [old for old in scores if old.model == one.model]
        for old in same[: max(0, len(same) - _VERSIONS_KEPT + 1)]:
            scores.remove(old)
        scores.append(replace(one, cached=False))
    if row is not None and not format_:
        return replace(row, scores=tuple(scores))
    return ContentRow(format_, width, height, tuple(scores))


def row_of(prediction: ImagePrediction) -> ContentRow | None:
    """Return what an outcome tells of its bytes; None for one without scores."""
    if not prediction.scores or not prediction.format:
        return None
    return ContentRow(prediction.format, prediction.width, prediction.height, prediction.scores)


def content_key(sha256: str) -> bytes:
    """Return the table key of a content."""
    return bytes.fromhex(sha256)


def embedding_key(sha256: str, network: str) -> bytes:
    """Return the table key of the embedding that `network` gave to a content."""
    return bytes.fromhex(sha256) + network.encode()


def etag_key(bucket: str, etag: str, size_bytes: int) -> bytes:
    """Return the table key under which a bucket that trusts ETags finds the sha256; never as long as a sha256."""
    digest = hashlib.blake2b(f"{bucket}\0{etag}\0{size_bytes}".encode(), digest_size=24)
    return digest.digest()


def encode_row(row: ContentRow) -> bytes:
    """Return the table value of `row`: a version byte and deflated JSON, 300 to 700 bytes for four models."""
    scores = [
        [
            one.model,
            one.version,
            one.preprocessing,
            [[label.label, label.value] for label in one.labels],
            [[part.left, part.top, part.right, part.bottom, part.value] for part in one.regions],
            one.skipped,
        ]
        for one in row.scores
    ]
    text = json.dumps([row.format, row.width, row.height, scores], separators=(",", ":"), ensure_ascii=False)
    return _VERSION + zlib.compress(text.encode(), 1)


def decode_row(value: bytes | None) -> ContentRow | None:
    """Return the row in `value`; None for none, and for one that this version cannot read (it is computed anew)."""
    if value is None or value[:1] != _VERSION:
        return None
    try:
        format_, width, height, scores = json.loads(zlib.decompress(value[1:]))
        return ContentRow(format_, width, height, tuple(_scores(*one) for one in scores))
    except (ValueError, TypeError, zlib.error):
        return None


def _scores(
    model: str, version: str, preprocessing: str, labels: list[list[object]], regions: list[list[float]], skipped: str
) -> ModelScores:
    return ModelScores(
        model,
        version,
        preprocessing,
        tuple(LabelScore(str(label), float(str(value))) for label, value in labels),
        tuple(Region(*region) for region in regions),
        True,
        skipped,
    )


def reason_codes(
    scores: Iterable[ModelScores], thresholds: Mapping[tuple[str, str], float], codes: Mapping[tuple[str, str], str]
) -> tuple[str, ...]:
    """Return the codes of labels at or over their threshold, by (model, label), in the order of the scores.

    What a cascade did not compute has no reasons: its labels hold another model's value.
    """
    found = []
    for one in scores:
        if one.skipped:
            continue
        for label in one.labels:
            code = codes.get((one.model, label.label))
            if code is not None and label.value >= thresholds.get((one.model, label.label), 2.0):
                found.append(code)
    return tuple(dict.fromkeys(found))
