"""The shipped models: they load and answer as their golden sets say, in ONNX Runtime and in TensorFlow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.inference.backbone import BRANCH_VALUES, INNER_VALUES, LAST_VALUES, read_branch
from app.inference.embedding import QuantisedEmbedding, dequantise
from app.inference.golden import cosine_similarity, golden_pictures, read_picture
from app.inference.loading import load_registry
from app.inference.manifest import artefact_path
from app.inference.model_input import Floats, ModelInput
from app.inference.preprocessing import normalise, prepare
from app.inference.registry import InferenceOptions, Registry
from tests.support.devices import tolerance

MODELS = Path(__file__).resolve().parents[3] / "models"
NETWORK_VALUES = LAST_VALUES + INNER_VALUES + BRANCH_VALUES


@pytest.fixture(scope="module")
def registry(device: str) -> Registry:
    runtime = "onnx" if device == "cpu" else "auto"
    return load_registry(MODELS, None, InferenceOptions(runtime=runtime, device=device, threads=2))


@pytest.fixture(scope="module")
def inputs(registry: Registry) -> list[ModelInput]:
    manifest = registry.manifest("nsfw")
    assert manifest.input is not None
    return [prepare(read_picture(path), manifest.input) for path in golden_pictures(manifest)]


def test_four_questions_are_answered(registry: Registry, device: str) -> None:
    assert (registry.device == "CPU") == (device == "cpu")
    assert [network.manifest.name for network in registry.networks()] == ["nsfw"]
    assert {head.manifest.name for head in registry.heads_of("nsfw")} == {"category", "quality", "text_gate"}
    assert [cascade.manifest.name for cascade in registry.cascades()] == ["embedded_text"]


def test_every_quality_label_but_the_overall_has_reason_and_advice(registry: Registry) -> None:
    manifest = registry.manifest("quality")
    for label in manifest.labels:
        if label != "overall":
            assert manifest.reasons[label].code == f"quality.{label}"
            assert manifest.reasons[label].advice
            assert 0 < manifest.thresholds[label] < 1


def test_overall_is_the_chance_of_no_fault(registry: Registry, inputs: list[ModelInput]) -> None:
    embeddings = registry.network("nsfw").infer(inputs).embeddings
    assert embeddings is not None
    scores = registry.head("quality").infer(embeddings).scores
    assert scores[:, -1] == pytest.approx(np.prod(1 - scores[:, :-1], axis=1), abs=1e-4)


def test_a_stored_embedding_gives_the_very_scores_of_a_fresh_one(registry: Registry, inputs: list[ModelInput]) -> None:
    fresh = registry.network("nsfw").infer(inputs).embeddings
    assert fresh is not None
    stored = [QuantisedEmbedding(values=bytes(one.values), scale=float(one.scale)) for one in fresh]
    for head in registry.heads_of("nsfw"):
        assert np.array_equal(head.infer(fresh).scores, head.infer(stored).scores)


def test_a_batch_answers_as_its_members_alone(registry: Registry, inputs: list[ModelInput], device: str) -> None:
    network = registry.network("nsfw")
    together = network.infer(inputs).scores
    alone = np.concatenate([network.infer([one]).scores for one in inputs])
    assert together == pytest.approx(alone, abs=tolerance(device, 1e-4))


def test_text_is_found_where_it_was_laid(registry: Registry) -> None:
    cascade = registry.network("embedded_text")
    spec = cascade.manifest.input
    assert spec is not None
    folder = cascade.manifest.folder / "golden"
    names = ("china.jpg", "china_text.jpg", "coffee.jpg", "coffee_text.jpg")
    output = cascade.infer([prepare(read_picture(folder / name), spec) for name in names])
    assert output.regions is not None
    assert output.scores[1, 0] > output.scores[0, 0] + 0.2
    assert output.scores[3, 0] > output.scores[2, 0] + 0.2
    best = output.regions[1][0]
    assert best.top < 0.6 and best.bottom > 0.5 and best.left < 0.3


def test_the_tensorflow_twin_equals_the_float_network(
    registry: Registry, inputs: list[ModelInput], device: str
) -> None:
    import onnxruntime

    from app.inference.tensorflow import build_twin
    from app.training.backbone import float_graph

    manifest = registry.manifest("nsfw")
    assert manifest.input is not None and manifest.twin is not None and manifest.branch is not None
    branch = read_branch(artefact_path(manifest, manifest.branch))
    batch = normalise([one.pixels for one in inputs], manifest.input)
    session = onnxruntime.InferenceSession(float_graph(branch).SerializeToString(), providers=["CPUExecutionProvider"])
    scores, embeddings = session.run(["outputs", "embedding"], {session.get_inputs()[0].name: batch})
    twin = build_twin(artefact_path(manifest, manifest.twin), branch)(batch, training=False)
    assert np.abs(np.asarray(twin["outputs"]) - scores).max() <= tolerance(device, 1e-3)
    for ours, theirs in zip(np.asarray(twin["embedding"]), embeddings, strict=True):
        assert cosine_similarity(ours, theirs) >= 0.9999


def test_tensorflow_serves_the_network_behind_the_same_golden_check(inputs: list[ModelInput], device: str) -> None:
    options = InferenceOptions(
        runtime="tensorflow", device=device, threads=2, disabled=("category", "quality", "text_gate")
    )
    served = load_registry(MODELS, None, options).network("nsfw")
    assert served.runtime == "keras"
    reference = load_registry(MODELS, None, replace(options, runtime="onnx", device="cpu")).network("nsfw")
    ours, theirs = served.infer(inputs), reference.infer(inputs)
    assert ours.scores == pytest.approx(theirs.scores, abs=0.1)
    for left, right in zip(_network_part(ours.embeddings), _network_part(theirs.embeddings), strict=True):
        assert cosine_similarity(left, right) > 0.98


def test_int8_keeps_the_scores_of_the_float_network(registry: Registry, inputs: list[ModelInput]) -> None:
    import onnxruntime

    from app.training.backbone import package_artefact

    manifest = registry.manifest("nsfw")
    assert manifest.input is not None
    session = onnxruntime.InferenceSession(str(package_artefact()), providers=["CPUExecutionProvider"])
    batch = normalise([one.pixels for one in inputs], manifest.input)
    (scores,) = session.run(None, {session.get_inputs()[0].name: batch[:, 16:240, 16:240]})
    assert np.abs(registry.network("nsfw").infer(inputs).scores[:, 0] - scores[:, 1]).max() < 0.1


@pytest.mark.gpu
def test_a_gpu_serves_the_network_behind_the_same_golden_check() -> None:
    from app.inference.tensorflow import gpu_present

    if not gpu_present():
        pytest.skip("TensorFlow sees no GPU")
    for mixed in (False, True):
        options = InferenceOptions(device="gpu", mixed_precision=mixed)
        registry = load_registry(MODELS, None, options)
        assert registry.device != "CPU"
        assert registry.network("nsfw").runtime == "keras"


def _network_part(embeddings: tuple[QuantisedEmbedding, ...] | None) -> list[Floats]:
    assert embeddings is not None
    return [dequantise(one)[:NETWORK_VALUES] for one in embeddings]
