"""Models small enough to reason about: scores are the mean colour of the picture, embeddings its four quarters."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from app.inference.embedding import QuantisedEmbedding, dequantise, quantise
from app.inference.manifest import Artefact, BatchLimits, Combine, Kind, ModelManifest, Reason, RunIf, Runtime
from app.inference.model_input import Fit, ImageInput, ModelInput
from app.inference.registry import Registry
from app.inference.runtime import LoadedHead, LoadedNetwork, ModelOutput
from schemas.records import Region

INPUT = ImageInput(height=8, width=8, version="8-stretch", fit=Fit.STRETCH, resize_height=8, resize_width=8)
WIDE_INPUT = ImageInput(height=32, width=32, version="32-stretch", fit=Fit.STRETCH, resize_height=32, resize_width=32)


def manifest(
    name: str,
    kind: Kind,
    labels: tuple[str, ...],
    *,
    version: str = "1",
    spec: ImageInput | None = None,
    embedding_of: str = "",
    run_if: RunIf | None = None,
    combine: Combine | None = None,
    max_batch: int = 4,
    max_delay_ms: int = 5,
    thresholds: Mapping[str, float] | None = None,
    reasons: Mapping[str, Reason] | None = None,
) -> ModelManifest:
    """A manifest with what these tests do not look at filled in."""
    return ModelManifest(
        name=name,
        version=version,
        kind=kind,
        runtime=Runtime.ONNX,
        artefact=Artefact("toy", "0" * 64),
        labels=labels,
        activation="none",
        multi_label=True,
        thresholds=thresholds or {},
        reasons=reasons or {},
        batch=BatchLimits(max_batch, max_delay_ms),
        input=spec,
        embedding_of=embedding_of,
        embedding_dimensions=3 if embedding_of or kind is Kind.NETWORK else 0,
        run_if=run_if,
        combine=combine,
        tolerances={},
        owner="tests",
        licence="none",
        trained_on="nothing",
        quality={},
        folder=Path("toy"),
    )


class ToyNetwork:
    """Scores: mean red (and green …) of the picture; the embedding is the mean colour. Notes its batch sizes.

    `hold` blocks each inference until it is set, so that a test decides when the device is busy.
    """

    runtime = "onnx"

    def __init__(self, given: ModelManifest, *, regions: bool = False) -> None:
        self.manifest = given
        self.entered = 0
        self.batches: list[int] = []
        self.threads: set[str] = set()
        self.hold: threading.Event | None = None
        self.error: BaseException | None = None
        self._regions = regions

    def infer(self, batch: Sequence[ModelInput]) -> ModelOutput:
        self.entered += 1
        if self.hold is not None:
            self.hold.wait(20)
        if self.error is not None:
            raise self.error
        self.batches.append(len(batch))
        self.threads.add(threading.current_thread().name)
        means = np.stack([one.pixels.reshape(-1, 3).mean(axis=0) / 255 for one in batch]).astype(np.float32)
        embeds = self.manifest.kind is Kind.NETWORK
        return ModelOutput(
            scores=means[:, : len(self.manifest.labels)],
            embeddings=tuple(quantise(mean) for mean in means) if embeds else None,
            regions=tuple((Region(0.0, 0.0, 1.0, 1.0, 0.5),) for _ in batch) if self._regions else None,
        )


class ToyHead:
    """Scores: the values of the embedding, one for each label."""

    runtime = "onnx"

    def __init__(self, given: ModelManifest, change: Callable[[float], float] = float) -> None:
        self.manifest = given
        self.rows = 0
        self._change = change

    def infer(self, embeddings: Sequence[QuantisedEmbedding]) -> ModelOutput:
        self.rows += len(embeddings)
        count = len(self.manifest.labels)
        rows = [[self._change(value) for value in dequantise(one)[:count]] for one in embeddings]
        return ModelOutput(scores=np.asarray(rows, dtype=np.float32))


class ToyModels:
    """One network (`colour`), a head on it (`tint`, with a reason) and a cascade (`detail`) behind the head."""

    def __init__(
        self, *, tint_version: str = "1", colour_version: str = "1", max_batch: int = 4, combine: Combine | None = None
    ) -> None:
        self.colour = ToyNetwork(
            manifest("colour", Kind.NETWORK, ("red",), spec=INPUT, version=colour_version, max_batch=max_batch)
        )
        self.tint = ToyHead(
            manifest(
                "tint",
                Kind.HEAD,
                ("red", "green"),
                version=tint_version,
                embedding_of="colour",
                thresholds={"green": 0.5},
                reasons={"green": Reason("too_green", "use a neutral background")},
            )
        )
        self.detail = ToyNetwork(
            manifest(
                "detail",
                Kind.CASCADE,
                ("blue",),
                spec=WIDE_INPUT,
                run_if=RunIf("tint", "red", ">=", 0.5),
                combine=combine,
            ),
            regions=True,
        )
        models: dict[str, LoadedNetwork | LoadedHead] = {
            "colour": self.colour,
            "tint": self.tint,
            "detail": self.detail,
        }
        manifests = (self.colour.manifest, self.tint.manifest, self.detail.manifest)
        self.registry = Registry(models=models, manifests=manifests, device="CPU")
