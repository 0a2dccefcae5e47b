"""`train embedded_text`: a cheap gate on the embedding, and the manifest of the detector that runs behind it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from PIL import Image

from app.inference.embedding import quantise
from app.inference.golden import record_head, record_network
from app.inference.manifest import read_manifest
from app.inference.model_input import Floats
from app.inference.onnx import load_onnx
from app.inference.runtime import LoadedHead, LoadedNetwork
from app.inference.tensorflow import load_head
from app.training.combining import fit_combination
from app.training.evaluation import area_under_curve, cascade_scores, gate_scores, text_scores
from app.training.folder import artefact, package_artefact, write_golden_pictures, write_manifest
from app.training.heads import Tower, build, fit, with_sigmoid
from app.training.options import TrainingOptions, backbone_id, embedder, load_backbone, split
from app.training.overlays import overlay
from app.training.pictures import View, embeddings_of, mirrored, plain
from app.training.report import labels_report, write_card

GATE, DETECTOR = "text_gate", "embedded_text"
ARTEFACT = "text_gate.keras"
LABEL = "text"
GATE_RECALL = 0.993
"""A little above the 0.99 that is promised: unseen pictures are a little harder than those that chose the threshold."""
_THRESHOLD_TEXTS = 5
DETECTOR_SIDE_PIXELS = 320
CHOOSING = "combine"
"""The random state of the text on which weights are fitted: not that of evaluations."""
FLAG_QUANTILE = 0.975
"""Share of photographs without text below the flag's threshold: at most 3 % false alarms, with a small margin."""


def overlay_view(image: Image.Image, rng: random.Random) -> Image.Image:
    """The picture with text laid over it."""
    return overlay(image, rng)


def train(options: TrainingOptions) -> Path:
    """Train the gate, set its threshold, write gate and detector folders; returns the detector's."""
    training, validation = split(options.pictures_dir)
    features = embedder(options)

    seed = str(options.seed)
    rows, truth = _rows(features, training.paths, seed, both=True)
    held, held_truth = _rows(features, validation.paths, "held", both=False)
    dimensions = rows.shape[1]
    towers = (Tower(0, dimensions, 192, 0.3), Tower(0, dimensions, 192, 0.3))
    model, serving = build(dimensions, 1, towers, rows, options.seed)
    ran = fit(
        model,
        serving,
        (rows, truth),
        (held, held_truth),
        loss=lambda: keras.losses.BinaryCrossentropy(from_logits=True),
        epochs=options.epochs,
        patience=4,
        progress=lambda epoch, loss: options.progress(f"training, validation loss {loss:.4f}", epoch, options.epochs),
    )
    head = with_sigmoid(serving)
    folder = options.models_dir / GATE / options.version
    folder.mkdir(parents=True, exist_ok=True)
    head.save(folder / ARTEFACT)
    answers: Floats = head.predict(held, verbose=0)
    with_text, without = answers[held_truth[:, 0] > 0.5, 0], answers[held_truth[:, 0] < 0.5, 0]
    # The tail decides, so it is looked at on several texts over each picture.
    more = [features(validation.paths, overlay_view, f"threshold/{number}") for number in range(_THRESHOLD_TEXTS)]
    tail = np.concatenate([with_text, *(head.predict(rows, verbose=0)[:, 0] for rows in more)])
    threshold = round(float(np.quantile(tail, 1.0 - GATE_RECALL)), 4)
    gate = {
        "auc": area_under_curve(with_text, without),
        "threshold": threshold,
        "recall": float((tail >= threshold).mean()),
        "pass_rate_without_text": float((without >= threshold).mean()),
        "validation_pictures": float(len(validation.paths)),
    }
    labels_report(folder / "report.png", [LABEL], held_truth, answers)
    _write_gate(folder, options, dimensions, gate, len(training.paths))
    step = max(1, len(held) // 8)
    gate_manifest = read_manifest(folder / "model.yaml")
    record_head(load_head(gate_manifest, options.threads), [quantise(row) for row in held[::step]])
    write_card(
        folder,
        f"{GATE}@{options.version}: may there be text laid over the picture?",
        {
            "What it answers": "How likely text is laid over the picture. Its only use is to decide whether the "
            f"detector `{DETECTOR}` must run, so its threshold is set for recall, not for being right.",
            "Data": f"{len(training.paths)} photographs as they are and with text laid over "
            f"(app/training/overlays.py), {len(validation.paths)} for validation, which also set the threshold.",
            "How": f"Two Keras towers on the stored embedding, epoch {ran.best_epoch} of {ran.epochs}, "
            f"seed {options.seed}.",
            "Limits": "Text printed on things themselves often passes it; the detector then runs for nothing.",
        },
        gate,
        ("report.png",),
    )
    return write_detector(options, validation.paths, threshold)


def _rows(
    features: Callable[[tuple[Path, ...], View, str], Floats], paths: tuple[Path, ...], seed: str, *, both: bool
) -> tuple[Floats, Floats]:
    parts = [(features(paths, plain, "0"), 0.0)]
    if both:
        parts.append((features(paths, mirrored, "0"), 0.0))
        # In halves, each with its own text: features are kept half by half.
        parts += [(features(half, overlay_view, seed), 1.0) for half in (paths[::2], paths[1::2])]
        parts.append((features(paths[::2], overlay_view, f"{seed}b"), 1.0))
    else:
        parts.append((features(paths, overlay_view, seed), 1.0))
    values = np.concatenate([rows for rows, _ in parts])
    targets = np.concatenate([np.full((len(rows), 1), label, dtype=np.float32) for rows, label in parts])
    return values, targets


def _write_gate(folder: Path, options: TrainingOptions, dimensions: int, gate: dict[str, float], count: int) -> None:
    write_manifest(
        folder,
        {
            "name": GATE,
            "version": options.version,
            "kind": "head",
            "runtime": "keras",
            "artefact": artefact(folder, ARTEFACT),
            "embedding_of": backbone_id(options),
            "embedding_dimensions": dimensions,
            "labels": [LABEL],
            "activation": "sigmoid",
            "multi_label": True,
            "batch": {"max_batch": 256, "max_delay_ms": 2},
            "golden": {"keras": {"scores": 0.005}},
            "owner": "sightline",
            "licence": "Apache-2.0",
            "trained_on": f"{count} photographs, as they are and with text that we laid over",
            "quality": {name: round(value, 5) for name, value in gate.items()},
        },
    )


def write_detector(options: TrainingOptions, paths: tuple[Path, ...], threshold: float) -> Path:
    """Write the detector's folder behind the gate that is there: how both are weighed, and where to flag.

    The weights are fitted on every second photograph, with text of another random state than that of evaluations; the
    threshold on all photographs as they are. What is written down is measured with the text of evaluations.
    """
    folder = options.models_dir / DETECTOR / options.version
    write_golden_pictures(folder, text=True)
    _write_detector(folder, options, threshold, None, {}, 0.5)
    detector = load_onnx(read_manifest(folder / "model.yaml"), options.threads)
    gate = load_head(read_manifest(options.models_dir / GATE / options.version / "model.yaml"), options.threads)
    network = load_backbone(options)
    chosen = text_scores(detector, paths, options.progress, CHOOSING)
    chosen_gate = gate_scores(gate, network, paths, options.progress, CHOOSING)
    gate_without = _plain_gate_scores(gate, network, paths, options)
    combine = fit_combination(
        np.concatenate([chosen_gate[::2], gate_without[::2]]),
        np.concatenate([chosen.with_text[::2], chosen.without[::2]]),
        np.repeat([True, False], [len(paths[::2])] * 2),
    )
    _write_detector(folder, options, threshold, combine, {}, 0.5)
    manifest = read_manifest(folder / "model.yaml")
    without = cascade_scores(manifest, gate_without, chosen.without)
    flag = _flag_threshold(without)
    pairs = text_scores(detector, paths, options.progress)
    with_text = cascade_scores(manifest, gate_scores(gate, network, paths, options.progress), pairs.with_text)
    measured = {
        "auc": area_under_curve(with_text, without),
        "auc_without_gate": area_under_curve(pairs.with_text, pairs.without),
        "found_at_threshold": float((with_text >= flag).mean()),
        "false_alarms_at_threshold": float((without >= flag).mean()),
        "core_ms_per_picture": pairs.core_ms,
        "validation_pictures": float(len(paths)),
    }
    _write_detector(folder, options, threshold, combine, measured, flag)
    record_network(load_onnx(read_manifest(folder / "model.yaml"), options.threads))
    write_card(
        folder,
        f"{DETECTOR}@{options.version}: is text laid over the picture, and where?",
        {
            "What it answers": "`text`, the probability that text lies over the picture, where as many pictures have "
            "text as have none; and regions as fractions of the upright picture.",
            "How": "The detector's own score is the best text-like stroke by confidence, length and size. It knows "
            f"where text is, `{GATE}` better whether text is laid over: the score that counts is a logistic function "
            "of both logits (`combine` in model.yaml). Its three numbers were fitted on every second validation "
            f"photograph, the threshold is the {FLAG_QUANTILE:.1%} quantile of all of them as they are; neither on "
            "the overlays that are measured below. The golden set holds the detector's own scores.",
            "Network": "PP-OCRv6 detection (small) as the rapidocr package ships it, Apache-2.0, not trained further. "
            f"Long side {DETECTOR_SIDE_PIXELS} pixels, shape kept. Only components thinner than 14 % of the short side "
            "count: the detector marks the whole object where a picture holds no text.",
            "When it runs": f"Where `{GATE}` answers {threshold:g} or more; else the gate's value stands as the score.",
            "Data": f"Measured on {len(paths)} validation photographs, each as it is and with text laid over by "
            "app/training/overlays.py: telephone numbers, addresses, prices, tiled watermarks; Latin, Cyrillic and "
            "Greek; many fonts, colours, sizes from 4.5 % of the short side, half transparent, turned, on plates.",
            "Limits": "It finds text, laid over or not: print on a T-shirt is its usual false alarm, and the "
            "photographs counted as without text hold a good deal of it. Text under 3 % of the side is not found. "
            "Chinese, Japanese and Korean are what the network was made for, but no font for them was at hand.",
        },
        measured,
    )
    return folder


def _plain_gate_scores(
    gate: LoadedHead, network: LoadedNetwork, paths: tuple[Path, ...], options: TrainingOptions
) -> Floats:
    rows = embeddings_of(network, paths, plain, "0", options.cache_dir)
    scores: Floats = gate.infer([quantise(row) for row in rows]).scores[:, 0]
    return scores


def _flag_threshold(without: Floats) -> float:
    return round(float(np.quantile(without, FLAG_QUANTILE)), 3)


def _write_detector(
    folder: Path,
    options: TrainingOptions,
    gate: float,
    combine: tuple[float, float, float] | None,
    measured: dict[str, float],
    flag: float,
) -> None:
    names = ("weight", "own_weight", "bias")
    combined = {"model": GATE, "label": LABEL, **dict(zip(names, combine, strict=True))} if combine else None
    write_manifest(
        folder,
        {
            "name": DETECTOR,
            "version": options.version,
            "kind": "cascade",
            "runtime": "onnx",
            "artefact": package_artefact("rapidocr", "models/PP-OCRv6_det_small.onnx"),
            "run_if": {"model": GATE, "label": LABEL, "op": ">=", "threshold": gate},
            **({"combine": combined} if combined else {}),
            "input": {
                "height": DETECTOR_SIDE_PIXELS,
                "width": DETECTOR_SIDE_PIXELS,
                "fit": "aspect",
                "multiple": 32,
                "colour_order": "bgr",
                "layout": "nchw",
                "mean": [127.5, 127.5, 127.5],
                "scale": [1 / 127.5, 1 / 127.5, 1 / 127.5],
                "preprocessing_version": "pp-ocr-320-1",
            },
            "outputs": {"scores": "fetch_name_0"},
            "postprocess": "text_regions",
            "options": {
                "pixel_threshold": 0.3,
                "thin_share": 0.14,
                "smallest_pixels": 6,
                "unclip": 1.6,
                "full_aspect": 3.0,
                "half_size": 0.001,
            },
            "labels": [LABEL],
            "activation": "none",
            "multi_label": True,
            "thresholds": {LABEL: flag},
            "reasons": {
                LABEL: {
                    "code": "content.embedded_text",
                    "advice": "Text is laid over the picture. Upload the photograph without text; use the description.",
                }
            },
            "batch": {"max_batch": 8, "max_delay_ms": 20},
            "golden": {"onnx": {"scores": 0.03}},
            "owner": "sightline",
            "licence": "Apache-2.0 (PaddleOCR, rapidocr)",
            "trained_on": "PP-OCR detection, as its authors trained it",
            "quality": {name: round(value, 5) for name, value in measured.items()},
        },
    )
