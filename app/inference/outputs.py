"""Common steps of all runtimes around a call: normalise, group by shape, restore the order, name the outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from app.errors import ManifestError
from app.inference.embedding import QuantisedEmbedding, quantise
from app.inference.manifest import ModelManifest
from app.inference.model_input import Floats, ImageInput, ModelInput
from app.inference.preprocessing import normalise
from app.inference.runtime import ModelOutput
from schemas.records import Region

Postprocess = Callable[[Floats, ModelManifest], tuple[float, tuple[Region, ...]]]
"""Function that turns one picture's output map into a score and regions; a manifest's `postprocess` names it."""


def infer_by_shape(
    manifest: ModelManifest,
    spec: ImageInput,
    run: Callable[[Floats], dict[str, Floats]],
    postprocess: Postprocess | None,
    batch: Sequence[ModelInput],
) -> ModelOutput:
    """Run a batch whose pictures may differ in shape. Return the results in the order of the batch."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, model_input in enumerate(batch):
        groups.setdefault(model_input.pixels.shape, []).append(index)
    scores = np.zeros((len(batch), len(manifest.labels)), dtype=np.float32)
    embeddings: dict[int, QuantisedEmbedding] = {}
    regions: list[tuple[Region, ...]] = [()] * len(batch)
    for indices in groups.values():
        outputs = run(normalise([batch[index].pixels for index in indices], spec))
        for row, index in enumerate(indices):
            if postprocess is not None:
                scores[index, 0], regions[index] = postprocess(outputs["scores"][row], manifest)
            else:
                scores[index] = pick_scores(outputs["scores"][row], manifest)
            if "embedding" in outputs:
                embeddings[index] = quantise(with_statistics(outputs["embedding"][row].reshape(-1), batch[index]))
    return ModelOutput(
        scores=scores,
        embeddings=tuple(embeddings[index] for index in range(len(batch))) if embeddings else None,
        regions=tuple(regions) if postprocess is not None else None,
    )


def pick_scores(values: Floats, manifest: ModelManifest) -> Floats:
    """Return the columns of the manifest's labels. `first_score` skips other columns (open_nsfw's "safe")."""
    first = int(manifest.options.get("first_score", 0))
    return values.reshape(-1)[first : first + len(manifest.labels)]


def with_statistics(embedding: Floats, model_input: ModelInput) -> Floats:
    """Return the embedding to store: the network's values, then the picture's statistics."""
    return embedding if model_input.statistics is None else np.concatenate([embedding, model_input.statistics])


def find_postprocess(manifest: ModelManifest) -> Postprocess | None:
    """Return the function that the manifest's `postprocess` names, if any. Raises ManifestError for an unknown name."""
    match manifest.postprocess:
        case "":
            return None
        case "text_regions":
            from app.inference.text_regions import text_regions

            return text_regions
        case unknown:
            raise ManifestError(
                f"{manifest.folder / 'model.yaml'}: postprocess: {unknown!r} is not known: text_regions"
            )
