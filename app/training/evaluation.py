"""Quality of the shipped models on photographs that they have not seen: figures of `./sightline models evaluate`."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.inference.embedding import QuantisedEmbedding
from app.inference.manifest import ModelManifest
from app.inference.model_input import Floats
from app.inference.preprocessing import prepare
from app.inference.registry import Registry
from app.inference.runtime import LoadedHead, LoadedNetwork
from app.training.damage import DEFECTS, damaged, mild, reencoded
from app.training.options import BACKBONE, Progress
from app.training.overlays import overlay
from app.training.pictures import LabelledPictures, as_picture, embed, open_rgb

_CHUNK = 16
EVALUATE = "evaluate"
"""The random state of the text that evaluations lay over pictures; nothing is chosen on it."""


@dataclass(frozen=True, slots=True, eq=False)
class TextScores:
    """The detector's scores of the same photographs with text laid over and without, and its CPU time a picture."""

    with_text: Floats
    without: Floats
    core_ms: float


def area_under_curve(positive: Floats, negative: Floats) -> float:
    """The chance that a positive scores above a negative, ties counting half."""
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, side="left")
    ties = np.searchsorted(ordered, positive, side="right") - below
    return float((below + ties / 2).mean() / max(1, len(negative)))


def text_scores(
    detector: LoadedNetwork, paths: Sequence[Path], progress: Progress, purpose: str = EVALUATE
) -> TextScores:
    """Run the detector alone on photographs, plain and with the text that `purpose` lays over them."""
    with_text, without = [], []
    spent = 0.0
    for index, path in enumerate(paths):
        image = open_rgb(path)
        started = time.process_time()
        without.append(_detect(detector, image))
        spent += time.process_time() - started
        with_text.append(_detect(detector, with_overlay(image, path, purpose)))
        progress("text detection", index + 1, len(paths))
    return TextScores(
        np.array(with_text, dtype=np.float32), np.array(without, dtype=np.float32), spent * 1000 / max(1, len(paths))
    )


def with_overlay(image: Any, path: Path, purpose: str = EVALUATE) -> Any:
    """The picture with the text that belongs to its name and the purpose: each evaluation lays the same one."""
    return overlay(image, random.Random(f"{purpose}/{path.parent.name}/{path.name}"))


def gate_scores(
    gate: LoadedHead, network: LoadedNetwork, paths: Sequence[Path], progress: Progress, purpose: str = EVALUATE
) -> Floats:
    """The gate's scores of photographs with the text that `purpose` lays over them."""
    marked: list[QuantisedEmbedding] = []
    for start in range(0, len(paths), _CHUNK):
        images = [with_overlay(open_rgb(path), path, purpose) for path in paths[start : start + _CHUNK]]
        marked.extend(embed(network, images))
        progress("text gate", start + len(images), len(paths))
    scores: Floats = gate.infer(marked).scores[:, 0]
    return scores


def _detect(detector: LoadedNetwork, image: Any) -> float:
    spec = detector.manifest.input
    assert spec is not None  # a cascade has one: the manifest's reader refuses it otherwise
    return float(detector.infer([prepare(as_picture(image), spec)]).scores[0, 0])


def evaluate(registry: Registry, pictures: LabelledPictures, progress: Progress) -> dict[str, Any]:
    """All figures on a folder-per-class tree. Minutes: every picture is scored in eleven variants."""
    network = registry.network(BACKBONE)
    paths = pictures.paths
    plain, nsfw = _plain(network, paths, progress)
    result: dict[str, Any] = {"pictures": len(paths), "device": registry.device}
    result["nsfw"] = _nsfw(registry, nsfw)
    active = {manifest.name for manifest in registry.manifests}
    if "category" in active:
        result["category"] = _category(registry, pictures, plain)
    if "quality" in active:
        result["quality"] = _quality(registry, network, paths, plain, progress)
    if "embedded_text" in active:
        result["embedded_text"] = _text(registry, network, paths, plain, progress)
    return result


def _plain(
    network: LoadedNetwork, paths: Sequence[Path], progress: Progress
) -> tuple[list[QuantisedEmbedding], Floats]:
    spec = network.manifest.input
    assert spec is not None  # as above
    embeddings: list[QuantisedEmbedding] = []
    scores = []
    for start in range(0, len(paths), _CHUNK):
        chunk = [prepare(as_picture(open_rgb(path)), spec) for path in paths[start : start + _CHUNK]]
        output = network.infer(chunk)
        embeddings.extend(output.embeddings or ())
        scores.append(output.scores)
        progress("scoring", start + len(chunk), len(paths))
    return embeddings, np.concatenate(scores)


def _nsfw(registry: Registry, scores: Floats) -> dict[str, float]:
    threshold = registry.manifest(BACKBONE).thresholds["nsfw"]
    alarms = scores[:, 0] >= threshold
    return {
        "threshold": threshold,
        "false_alarm_rate": float(alarms.mean()),
        "highest_score": float(scores.max()),
        "99_percent_below": float(np.quantile(scores, 0.99)),
    }


def _category(registry: Registry, pictures: LabelledPictures, plain: Sequence[QuantisedEmbedding]) -> dict[str, Any]:
    head = registry.head("category")
    labels = head.manifest.labels
    answers = head.infer(plain).scores.argmax(axis=1)
    known = np.array([label in labels for label in pictures.labels])
    truth = np.array([labels.index(label) if label in labels else -1 for label in pictures.labels])
    right = (answers == truth)[known]
    by_class = {
        name: {"pictures": int((truth == i).sum()), "accuracy": float((answers[truth == i] == i).mean())}
        for i, name in enumerate(labels)
        if (truth == i).any()
    }
    return {
        "accuracy": float(right.mean()) if known.any() else None,
        "pictures": int(known.sum()),
        "skipped_unknown_class": int((~known).sum()),
        "by_class": by_class,
    }


def _quality(
    registry: Registry,
    network: LoadedNetwork,
    paths: Sequence[Path],
    plain: Sequence[QuantisedEmbedding],
    progress: Progress,
) -> dict[str, float]:
    from app.training.quality import measure

    head = registry.head("quality")
    columns = [head.manifest.labels.index(name) for name in DEFECTS]
    rows = [head.infer(plain).scores[:, columns]]
    targets = [np.zeros((len(paths), len(DEFECTS)), dtype=np.float32)]
    for number, defect in enumerate(("mild", *DEFECTS)):
        embeddings: list[QuantisedEmbedding] = []
        for start in range(0, len(paths), _CHUNK):
            images = []
            for path in paths[start : start + _CHUNK]:
                rng = random.Random(f"evaluate/{defect}/{path.parent.name}/{path.name}")
                image = open_rgb(path)
                changed = mild(image, rng) if defect == "mild" else damaged(image, defect, rng)
                images.append(reencoded(changed, rng))
            embeddings.extend(embed(network, images))
            progress(f"quality: {defect}", start + len(images), len(paths))
        rows.append(head.infer(embeddings).scores[:, columns])
        truth = np.zeros((len(paths), len(DEFECTS)), dtype=np.float32)
        if number:
            truth[:, number - 1] = 1.0
        targets.append(truth)
    return measure(np.concatenate(targets), np.concatenate(rows))


def _text(
    registry: Registry,
    network: LoadedNetwork,
    paths: Sequence[Path],
    plain: Sequence[QuantisedEmbedding],
    progress: Progress,
) -> dict[str, float]:
    detector = registry.network("embedded_text")
    run_if = detector.manifest.run_if
    assert run_if is not None  # a cascade has one: the manifest's reader refuses it otherwise
    gate = registry.head(run_if.model)
    gate_without = gate.infer(plain).scores[:, 0]
    gate_with = gate_scores(gate, network, paths, progress)
    scores = text_scores(detector, paths, progress)

    positive = cascade_scores(detector.manifest, gate_with, scores.with_text)
    negative = cascade_scores(detector.manifest, gate_without, scores.without)
    threshold = detector.manifest.thresholds["text"]
    return {
        "auc": area_under_curve(positive, negative),
        "auc_of_detector_alone": area_under_curve(scores.with_text, scores.without),
        "auc_of_gate_alone": area_under_curve(gate_with, gate_without),
        "threshold": threshold,
        "found_at_threshold": float((positive >= threshold).mean()),
        "false_alarms_at_threshold": float((negative >= threshold).mean()),
        "gate_recall": float(np.mean([run_if.holds(float(value)) for value in gate_with])),
        "gate_pass_rate_without_text": float(np.mean([run_if.holds(float(value)) for value in gate_without])),
        "detector_core_ms": scores.core_ms,
    }


def cascade_scores(manifest: ModelManifest, gates: Floats, own: Floats) -> Floats:
    """Return the engine's scores for a cascade from its gate's scores and its own: gate alone, combined, or own."""
    run_if, combine = manifest.run_if, manifest.combine
    assert run_if is not None  # as above

    def score_of(gate: float, score: float) -> float:
        if not run_if.holds(gate):
            return gate
        return combine.score(gate, score) if combine is not None else score

    return np.array(
        [score_of(float(gate), float(score)) for gate, score in zip(gates, own, strict=True)], dtype=np.float32
    )


def evaluate_lines(lines: Sequence[str]) -> dict[str, Any]:
    """Category accuracy by class and nsfw flags from the JSON lines of `./sightline score DIR --json`.

    The true class is the name of the folder that holds the picture; pictures that were not scored are counted, not
    skipped in silence.
    """
    rows = [json.loads(line) for line in lines if line.strip()]
    scored = [row for row in rows if row.get("outcome") == "scored"]
    by_class: dict[str, list[bool]] = {}
    for row in scored:
        answers = row["scores"].get("category", {})
        folder = Path(row["path"]).parent.name
        if folder in answers:
            by_class.setdefault(folder, []).append(max(answers, key=answers.__getitem__) == folder)
    hits = [hit for answers_of in by_class.values() for hit in answers_of]
    nsfw = [row for row in scored if any("nsfw" in str(flag) for flag in row.get("flags", ()))]
    return {
        "pictures": len(rows),
        "not_scored": len(rows) - len(scored),
        "category": {
            "accuracy": float(np.mean(hits)) if hits else None,
            "pictures": len(hits),
            "by_class": {
                name: {"pictures": len(hits_of), "accuracy": float(np.mean(hits_of))}
                for name, hits_of in sorted(by_class.items())
            },
        },
        "nsfw": {"false_alarm_rate": len(nsfw) / max(1, len(scored))},
    }
