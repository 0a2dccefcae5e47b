"""`train category`: what is shown, from a folder per class."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from app.errors import ConfigurationError
from app.inference.backbone import BRANCH_VALUES, INNER_VALUES, LAST_VALUES
from app.inference.embedding import quantise
from app.inference.golden import record_head
from app.inference.manifest import read_manifest
from app.inference.model_input import Floats
from app.inference.tensorflow import load_head
from app.training.folder import artefact, write_manifest
from app.training.heads import Tower, build, fit, temperature, with_softmax
from app.training.options import TrainingOptions, backbone_id, embedder, split
from app.training.pictures import class_indices, mirrored, plain, varied
from app.training.report import calibration_error, confusion_report, write_card

ARTEFACT = "category.keras"
_VARIED_VIEWS = 3
_SMOOTHING = 0.1


def towers(dimensions: int) -> tuple[Tower, ...]:
    """The tuned branch gives one opinion, the backbone's own values two: neither leans on the other's overfitting."""
    own = LAST_VALUES + INNER_VALUES
    return (
        Tower(own, own + BRANCH_VALUES, 0, 0.5),
        Tower(0, own, 384, 0.3),
        Tower(0, own, 384, 0.3),
        Tower(0, own + BRANCH_VALUES, 384, 0.5),
    )


def train(options: TrainingOptions) -> Path:
    """Train, choose on the validation pictures, write the model folder and return it."""
    training, validation = split(options.pictures_dir)
    classes = training.classes
    if set(validation.classes) - set(classes):
        raise ConfigurationError(f"{options.pictures_dir}: validation has classes that training lacks")
    features = embedder(options)

    views = [features(training.paths, plain, "0"), features(training.paths, mirrored, "0")]
    views += [features(training.paths, varied, str(options.seed + k)) for k in range(_VARIED_VIEWS)]
    held = features(validation.paths, plain, "0")
    truth = class_indices(validation.labels, classes)
    rows = np.concatenate(views)
    targets = np.tile(
        keras.utils.to_categorical(class_indices(training.labels, classes), len(classes)), (len(views), 1)
    )
    model, serving = build(rows.shape[1], len(classes), towers(rows.shape[1]), rows, options.seed)
    ran = fit(
        model,
        serving,
        (rows, targets),
        (held, keras.utils.to_categorical(truth, len(classes))),
        loss=lambda: keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=_SMOOTHING),
        epochs=options.epochs,
        patience=5,
        progress=lambda epoch, loss: options.progress(f"training, validation loss {loss:.4f}", epoch, options.epochs),
    )
    factor = temperature(serving.predict(held, verbose=0), truth)
    head = with_softmax(serving, factor)
    folder = options.models_dir / "category" / options.version
    folder.mkdir(parents=True, exist_ok=True)
    head.save(folder / ARTEFACT)
    probabilities: Floats = head.predict(held, verbose=0)
    counts = confusion_report(folder / "report.png", classes, truth, probabilities)
    right = probabilities.argmax(axis=1) == truth
    measured = {
        "validation_accuracy": float(right.mean()),
        "validation_pictures": float(len(truth)),
        "calibration_error": calibration_error(probabilities.max(axis=1), right),
        **{f"recall_{name}": float(counts[i, i] / max(1, counts[i].sum())) for i, name in enumerate(classes)},
    }
    write_manifest(
        folder,
        {
            "name": "category",
            "version": options.version,
            "kind": "head",
            "runtime": "keras",
            "artefact": artefact(folder, ARTEFACT),
            "embedding_of": backbone_id(options),
            "embedding_dimensions": int(rows.shape[1]),
            "labels": list(classes),
            "activation": "softmax",
            "multi_label": False,
            "batch": {"max_batch": 256, "max_delay_ms": 2},
            "golden": {"keras": {"scores": 0.005}},
            "owner": "sightline",
            "licence": "Apache-2.0",
            "trained_on": f"{len(training.paths)} photographs in {len(classes)} folders, {len(views)} views of each",
            "quality": {name: round(value, 5) for name, value in measured.items()},
        },
    )
    model_folder = read_manifest(folder / "model.yaml")
    record_head(load_head(model_folder, options.threads), [quantise(row) for row in held[::60]])
    write_card(
        folder,
        f"category@{options.version}: what is shown",
        {
            "What it answers": f"One of {len(classes)} classes: {', '.join(classes)}. The probabilities add up to one.",
            "Data": f"{len(training.paths)} training photographs in {len(views)} views each (plain, mirrored, cut, "
            f"turned, lit), {len(validation.paths)} validation photographs, which chose the epoch and the temperature."
            " The pictures are the public clothing dataset (subset), CC0, unless `--data` named others.",
            "How": f"A Keras head of {len(towers(rows.shape[1]))} towers on the embedding as it is stored (int8), "
            f"their logits averaged, label smoothing {_SMOOTHING}, temperature factor {factor:.2f}; epoch "
            f"{ran.best_epoch} of {ran.epochs}, seed {options.seed}.",
            "Limits": "It knows these classes alone: a picture of something else gets one of them, usually with a low "
            "probability. Shirts, T-shirts and long sleeves are confused with each other most. One piece of clothing, "
            "seen whole, is what it was trained on.",
        },
        measured,
        ("report.png",),
    )
    return folder
