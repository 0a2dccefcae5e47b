"""`train quality`: what is wrong with a photograph, from damage that we make ourselves on undamaged ones."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.inference.backbone import BRANCH_VALUES, INNER_VALUES, LAST_VALUES
from app.inference.embedding import quantise
from app.inference.golden import record_head
from app.inference.manifest import read_manifest
from app.inference.model_input import Floats
from app.inference.statistics import STATISTICS
from app.inference.tensorflow import load_head
from app.training.damage import DEFECTS, STRENGTHS, VERSION, damaged, mild, reencoded
from app.training.folder import artefact, write_manifest
from app.training.heads import Tower, build, fit, with_overall
from app.training.options import TrainingOptions, backbone_id, embedder, split
from app.training.pictures import View, plain
from app.training.report import calibration_error, labels_report, write_card

ARTEFACT = "quality.keras"
OVERALL = "overall"
LABELS = (*DEFECTS, OVERALL)
_DAMAGED_VIEWS = 6
_SEEN_FROM = LAST_VALUES + INNER_VALUES + BRANCH_VALUES

REASONS: dict[str, tuple[str, str]] = {
    "blurry": ("quality.blurry", "The picture is blurred. Hold the camera still, tap to focus, and take it again."),
    "dark": ("quality.dark", "The picture is too dark. Take it by daylight near a window, or switch on more light."),
    "overexposed": (
        "quality.overexposed",
        "The picture is too bright. Avoid the flash and direct sun, or lower exposure.",
    ),
    "noisy": ("quality.noisy", "The picture is grainy. More light lets the camera take a cleaner one."),
    "overcompressed": ("quality.overcompressed", "The picture was compressed too far. Upload the original file."),
    "low_contrast": (
        "quality.low_contrast",
        "The picture looks washed out. Clean the lens and use a plainer background.",
    ),
    "low_resolution": ("quality.low_resolution", "The picture is too small. Upload it in its full size."),
}


def damaged_view(shift: int, defects: tuple[str, ...] = DEFECTS) -> View:
    """A view that damages each picture in one way; `shift` turns the assignment of defects to pictures."""

    def view(image: Image.Image, rng: random.Random) -> Image.Image:
        defect = defects[(rng.randrange(len(defects)) + shift) % len(defects)]
        return reencoded(damaged(image, defect, rng), rng)

    view.__name__ = f"damaged_{VERSION}_{shift}_of_{len(defects)}"
    return view


def one_defect_view(defect: str) -> View:
    """A view that damages every picture in the same way."""

    def view(image: Image.Image, rng: random.Random) -> Image.Image:
        return reencoded(damaged(image, defect, rng), rng)

    view.__name__ = f"damaged_{VERSION}_{defect}"
    return view


def mild_view(image: Image.Image, rng: random.Random) -> Image.Image:
    """A view that changes pictures as little as ordinary handling does: near misses."""
    return reencoded(mild(image, rng), rng)


def assigned(paths: tuple[Path, ...], shift: int, seed: str) -> NDArray[np.int64]:
    """Return the defect that `damaged_view(shift)` gives to each picture, by repeating its draw."""
    draws = [random.Random(f"{seed}/{path.parent.name}/{path.name}").randrange(len(DEFECTS)) for path in paths]
    return (np.array(draws, dtype=np.int64) + shift) % len(DEFECTS)


def one_hot(indices: NDArray[np.int64]) -> Floats:
    """Targets of pictures with one defect each."""
    return np.eye(len(DEFECTS), dtype=np.float32)[indices]


def damage_features(
    features: Callable[[tuple[Path, ...], View, str], Floats], paths: tuple[Path, ...], seed: str
) -> tuple[Floats, Floats]:
    """Embeddings and targets to measure with: each picture plain, mildly changed, and with every defect."""
    rows = [features(paths, plain, "0"), features(paths, mild_view, seed)]
    targets = [np.zeros((len(paths), len(DEFECTS)), dtype=np.float32)] * 2
    for index, defect in enumerate(DEFECTS):
        rows.append(features(paths, one_defect_view(defect), seed))
        targets.append(one_hot(np.full(len(paths), index)))
    return np.concatenate(rows), np.concatenate(targets)


def measure(targets: Floats, faults: Floats) -> dict[str, float]:
    """Figures on rows that hold one defect or none.

    `accuracy` is the strictest: the share of pictures whose list of defects is exactly right. `label_accuracy` is the
    mean over the defects of (found where it is + not claimed where it is not) / 2.
    """
    claimed, true = faults >= 0.5, targets >= 0.5
    clean = ~true.any(axis=1)
    recalled = {name: float(claimed[true[:, i], i].mean()) for i, name in enumerate(DEFECTS)}
    spared = {name: float((~claimed[~true[:, i], i]).mean()) for i, name in enumerate(DEFECTS)}
    exact = (claimed == true).all(axis=1)
    # As many damaged pictures as clean ones weigh.
    per_kind = [float(exact[true[:, i]].mean()) for i in range(len(DEFECTS))]
    return {
        "accuracy": float(exact.mean()),
        "label_accuracy": float(np.mean([(recalled[name] + spared[name]) / 2 for name in DEFECTS])),
        "damaged_or_not": (float(claimed[~clean].any(axis=1).mean()) + float((~claimed[clean].any(axis=1)).mean())) / 2,
        "clean_pictures_left_alone": float(exact[clean].mean()),
        "damaged_pictures_exact": float(np.mean(per_kind)),
        **{f"found_{name}": recalled[name] for name in DEFECTS},
    }


def train(options: TrainingOptions) -> Path:
    """Train, choose on damaged validation pictures, write the model folder and return it."""
    training, validation = split(options.pictures_dir)
    features = embedder(options)

    seed = str(options.seed)
    # Every third picture in turn: all of them are seen damaged, at a third of the time.
    thirds = (training.paths[::3], training.paths[1::3], training.paths[2::3])
    rows = [features(training.paths, plain, "0"), features(training.paths[::2], mild_view, seed)]
    targets = [np.zeros((len(row), len(DEFECTS)), dtype=np.float32) for row in rows]
    for shift in range(_DAMAGED_VIEWS):
        paths = thirds[shift % 3]
        rows.append(features(paths, damaged_view(shift), seed))
        targets.append(one_hot(assigned(paths, shift, seed)))
    values, truth = np.concatenate(rows), np.concatenate(targets)
    held, held_truth = damage_features(features, validation.paths[::2], "held")
    dimensions = values.shape[1]
    towers = (
        Tower(0, dimensions, 256, 0.2),
        Tower(_SEEN_FROM, dimensions, 128, 0.0),
        Tower(0, dimensions, 256, 0.2),
    )
    model, serving = build(dimensions, len(DEFECTS), towers, values, options.seed)
    ran = fit(
        model,
        serving,
        (values, truth),
        (held, held_truth),
        loss=lambda: keras.losses.BinaryCrossentropy(from_logits=True),
        epochs=options.epochs,
        patience=5,
        progress=lambda epoch, loss: options.progress(f"training, validation loss {loss:.4f}", epoch, options.epochs),
    )
    head = with_overall(serving, len(DEFECTS))
    folder = options.models_dir / "quality" / options.version
    folder.mkdir(parents=True, exist_ok=True)
    head.save(folder / ARTEFACT)
    answers: Floats = head.predict(held, verbose=0)
    faults = answers[:, : len(DEFECTS)]
    labels_report(folder / "report.png", DEFECTS, held_truth, faults)
    measured = measure(held_truth, faults)
    measured["calibration_error"] = calibration_error(faults.ravel(), held_truth.ravel() >= 0.5)
    measured["validation_rows"] = float(len(held))
    write_manifest(
        folder,
        {
            "name": "quality",
            "version": options.version,
            "kind": "head",
            "runtime": "keras",
            "artefact": artefact(folder, ARTEFACT),
            "embedding_of": backbone_id(options),
            "embedding_dimensions": dimensions,
            "labels": list(LABELS),
            "activation": "sigmoid",
            "multi_label": True,
            "thresholds": dict.fromkeys(DEFECTS, 0.5),
            "reasons": {name: {"code": code, "advice": advice} for name, (code, advice) in REASONS.items()},
            "batch": {"max_batch": 256, "max_delay_ms": 2},
            "golden": {"keras": {"scores": 0.005}},
            "owner": "sightline",
            "licence": "Apache-2.0",
            "trained_on": f"{len(training.paths)} photographs, plain, mildly changed and damaged by us",
            "quality": {name: round(value, 5) for name, value in measured.items()},
        },
    )
    step = max(1, len(held) // 8)
    record_head(
        load_head(read_manifest(folder / "model.yaml"), options.threads), [quantise(row) for row in held[::step]]
    )
    strengths = "; ".join(
        f"{name} {s.damaged[0]:g} to {s.damaged[1]:g} (mild {s.mild[0]:g} to {s.mild[1]:g})"
        for name, s in STRENGTHS.items()
    )
    write_card(
        folder,
        f"quality@{options.version}: what is wrong with a photograph",
        {
            "What it answers": f"The probability of each fault ({', '.join(DEFECTS)}), flagged from 0.5, each with a "
            "reason code and advice for the seller; and `overall`, the probability that the photograph has none.",
            "Data": f"{len(training.paths)} training photographs and {len(validation.paths)} for validation, each "
            "plain, mildly changed and damaged by app/training/damage.py before any resizing, half of them saved once "
            f"more as JPEG. Parameters (units in damage.py): {strengths}. What lies between mild and damaged is "
            "neither trained nor measured: there people disagree.",
            "How": f"A Keras head of {len(towers)} towers on the stored embedding: the backbone's values see light, "
            f"contrast and strong blur; {len(STATISTICS)} statistics measured at viewing scale "
            "(app/inference/statistics.py) see what the network's small input cannot: noise, JPEG blocks, fine blur, "
            f"size. Epoch {ran.best_epoch} of {ran.epochs}, seed {options.seed}.",
            "Limits": "Made damage is cleaner than real damage. Pictures with two faults at once were not in "
            "training, often only the stronger one is named. Photographs of dark or very plain things lie nearest to "
            "false alarms.",
        },
        measured,
        ("report.png",),
    )
    return folder
