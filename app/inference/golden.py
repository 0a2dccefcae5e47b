"""Golden sets: a few committed inputs with the outputs that were measured when the model was made.

A model whose outputs differ (other library version, other CPU, damaged artefact, half precision) does not start. Inputs
are pictures for networks and cascades (`golden/*.png|jpg`), and embeddings for heads. `golden/expected.json` contains
the expected outputs and, for heads, the inputs. The manifest's `golden` states the tolerances for each runtime.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from app.errors import ManifestError
from app.inference.embedding import QuantisedEmbedding, dequantise
from app.inference.manifest import Kind, ModelManifest, Tolerance
from app.inference.model_input import Floats, ModelInput, Picture
from app.inference.preprocessing import prepare
from app.inference.runtime import LoadedHead, LoadedNetwork, ModelOutput


def read_picture(path: Path) -> Picture:
    """Decode a golden picture, which is small and trusted. (Uploads go through the engine's decoder and its limits.)"""
    with Image.open(path) as image:
        rgb = np.asarray(image.convert("RGB"))
    return Picture(rgb=rgb, source_width=rgb.shape[1], source_height=rgb.shape[0])


def golden_pictures(manifest: ModelManifest) -> tuple[Path, ...]:
    """Return the golden input pictures of a network or cascade, sorted by name."""
    return tuple(path for path in sorted((manifest.folder / "golden").glob("*")) if path.suffix in {".png", ".jpg"})


def check_network(model: LoadedNetwork) -> None:
    """Score the golden pictures. Raises ManifestError with the first output beyond its tolerance."""
    manifest = model.manifest
    expected = _expected(manifest)
    output = model.infer(_inputs(manifest, tuple(manifest.folder / "golden" / str(row["input"]) for row in expected)))
    _compare(manifest, model.runtime, expected, output)


def check_head(model: LoadedHead) -> None:
    """Score the golden embeddings. Raises ManifestError with the first output beyond its tolerance."""
    manifest = model.manifest
    expected = _expected(manifest)
    output = model.infer([_embedding(row["input"]) for row in expected])
    _compare(manifest, model.runtime, expected, output)


def record_network(model: LoadedNetwork) -> None:
    """Write `golden/expected.json` with the outputs of the model for its golden pictures."""
    paths = golden_pictures(model.manifest)
    output = model.infer(_inputs(model.manifest, paths))
    rows = [{"input": path.name, **_row(model.manifest, output, index)} for index, path in enumerate(paths)]
    _write(model.manifest, rows)


def record_head(model: LoadedHead, embeddings: Sequence[QuantisedEmbedding]) -> None:
    """Write `golden/expected.json` with these embeddings and the head's outputs."""
    output = model.infer(embeddings)
    rows = [
        {"input": _packed(embedding), **_row(model.manifest, output, index)}
        for index, embedding in enumerate(embeddings)
    ]
    _write(model.manifest, rows)


def _inputs(manifest: ModelManifest, paths: Sequence[Path]) -> list[ModelInput]:
    if manifest.input is None:
        raise ManifestError(f"{manifest.folder / 'model.yaml'}: a {manifest.kind} needs an input")
    return [prepare(read_picture(path), manifest.input) for path in paths]


def _expected(manifest: ModelManifest) -> list[dict[str, Any]]:
    path = manifest.folder / "golden" / "expected.json"
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path}: the golden set of {manifest.id} cannot be read: {error}") from error
    if not rows:
        raise ManifestError(f"{path}: the golden set of {manifest.id} is empty")
    missing = [str(row["input"]) for row in rows if manifest.kind is not Kind.HEAD and not _exists(manifest, row)]
    if missing:
        raise ManifestError(f"{path}: names absent pictures: {', '.join(missing)}")
    return rows


def _exists(manifest: ModelManifest, row: dict[str, Any]) -> bool:
    return (manifest.folder / "golden" / str(row["input"])).is_file()


def _compare(manifest: ModelManifest, runtime: str, expected: list[dict[str, Any]], output: ModelOutput) -> None:
    tolerance: Tolerance | None = manifest.tolerances.get(runtime)
    if tolerance is None:
        raise ManifestError(f"{manifest.folder / 'model.yaml'}: golden: has no tolerance for the runtime {runtime}")
    for index, row in enumerate(expected):
        for label, wanted in row["scores"].items():
            score = float(output.scores[index, manifest.labels.index(label)])
            if not abs(score - wanted) <= tolerance.scores:
                raise ManifestError(
                    f"{manifest.folder}: golden picture {index + 1}: {label} is {score:.4f}, was {wanted:.4f}, "
                    f"and may differ by {tolerance.scores} on {runtime}"
                )
        if "embedding" in row and output.embeddings is not None:
            cosine = cosine_similarity(dequantise(output.embeddings[index]), dequantise(_embedding(row["embedding"])))
            if not cosine >= tolerance.embedding_cosine:
                raise ManifestError(
                    f"{manifest.folder}: golden picture {index + 1}: the embedding's cosine to the golden one is "
                    f"{cosine:.5f}, below {tolerance.embedding_cosine} on {runtime}"
                )


def cosine_similarity(left: Floats, right: Floats) -> float:
    """Return the cosine similarity of two vectors; 0 if one is zero or their sizes differ."""
    norms = float(np.linalg.norm(left) * np.linalg.norm(right))
    return float(left @ right) / norms if norms and left.shape == right.shape else 0.0


def _row(manifest: ModelManifest, output: ModelOutput, index: int) -> dict[str, Any]:
    scores = {label: round(float(output.scores[index, i]), 6) for i, label in enumerate(manifest.labels)}
    row: dict[str, Any] = {"scores": scores}
    if output.embeddings is not None:
        row["embedding"] = _packed(output.embeddings[index])
    return row


def _packed(embedding: QuantisedEmbedding) -> dict[str, Any]:
    return {"scale": embedding.scale, "values": base64.b64encode(embedding.values).decode("ascii")}


def _embedding(packed: dict[str, Any]) -> QuantisedEmbedding:
    return QuantisedEmbedding(values=base64.b64decode(packed["values"]), scale=float(packed["scale"]))


def _write(manifest: ModelManifest, rows: list[dict[str, Any]]) -> None:
    folder = manifest.folder / "golden"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "expected.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
