"""A model is a folder: found, checked, put in order, refused with file, line and reason."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from app.errors import ManifestError
from app.inference.embedding import dequantise
from app.inference.loading import load_registry
from app.inference.manifest import read_manifest
from app.inference.model_input import Picture
from app.inference.preprocessing import prepare
from app.inference.registry import InferenceOptions, find_manifests, folders_without_manifest
from app.training.folder import write_manifest
from tests.unit.inference.folders import network_values, write_head, write_network

OPTIONS = InferenceOptions(runtime="onnx", device="cpu", threads=1)


def solid(red: int, green: int, blue: int, height: int = 20, width: int = 30) -> Picture:
    rgb = np.full((height, width, 3), (red, green, blue), dtype=np.uint8)
    return Picture(rgb=rgb, source_width=width, source_height=height)


def test_a_new_head_folder_is_loaded_and_scored_with_no_code_edited(tmp_path: Path) -> None:
    write_network(tmp_path)
    assert load_registry(tmp_path, None, OPTIONS).heads_of("mean") == ()
    write_head(tmp_path, "warm")
    registry = load_registry(tmp_path, None, OPTIONS)
    network, (head,) = registry.network("mean"), registry.heads_of("mean")
    assert network.manifest.input is not None
    inputs = [prepare(solid(*colour), network.manifest.input) for colour in ((255, 0, 0), (0, 0, 255))]
    output = network.infer(inputs)
    assert output.embeddings is not None
    scores = head.infer(output.embeddings).scores
    assert scores[0, 0] == pytest.approx(1 / (1 + np.exp(-2)), abs=0.01)
    assert scores[1, 0] == pytest.approx(1 / (1 + np.exp(2)), abs=0.01)
    assert registry.preprocessing_version("warm") == "mean-1"


def test_the_highest_version_runs_unless_another_is_active(tmp_path: Path) -> None:
    for version in ("2", "10"):
        write_network(tmp_path, version=version)
    assert load_registry(tmp_path, None, OPTIONS).manifest("mean").version == "10"
    assert load_registry(tmp_path, {"mean": "2"}, OPTIONS).manifest("mean").version == "2"
    with pytest.raises(ManifestError, match="mean@3 has no folder"):
        load_registry(tmp_path, {"mean": "3"}, OPTIONS)


def test_a_disabled_network_takes_its_heads_along(tmp_path: Path) -> None:
    write_network(tmp_path)
    write_head(tmp_path)
    registry = load_registry(tmp_path, None, InferenceOptions(runtime="onnx", device="cpu", disabled=("mean",)))
    assert registry.manifests == ()


def test_cascades_come_after_what_they_wait_for(tmp_path: Path) -> None:
    write_network(tmp_path)
    write_head(tmp_path, "warm")
    run_if = {"model": "warm", "label": "warm", "op": ">=", "threshold": 0.5}
    write_network(tmp_path, "deep", kind="cascade", run_if=run_if)
    registry = load_registry(tmp_path, None, OPTIONS)
    assert [manifest.name for manifest in registry.manifests] == ["mean", "warm", "deep"]
    (cascade,) = registry.cascades()
    assert cascade.manifest.run_if is not None
    assert cascade.manifest.run_if.holds(0.5)
    assert not cascade.manifest.run_if.holds(0.49)


RUN_IF = {"model": "warm", "label": "warm", "op": ">=", "threshold": 0.5}
COMBINE = {"model": "warm", "label": "warm", "weight": 1, "own_weight": 0.5, "bias": -0.25}


def test_a_cascade_may_combine_its_score_with_its_gates(tmp_path: Path) -> None:
    folder = write_network(tmp_path, "deep", kind="cascade", run_if=RUN_IF, combine=COMBINE, thresholds={"red": 0.6})
    combine = read_manifest(folder / "model.yaml").combine
    assert combine is not None
    assert combine.score(0.5, 0.5) == pytest.approx(1 / (1 + np.exp(0.25)))
    assert combine.score(0.9, 0.2) == pytest.approx(1 / (1 + np.exp(-(np.log(9) + 0.5 * np.log(0.25) - 0.25))))
    assert 0 < combine.score(0.0, 0.0) < combine.score(0.5, 0.5) < combine.score(1.0, 1.0) < 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"combine": {**COMBINE, "weight": -1}}, "combine.weight: must be a number from 0.0 to 20.0"),
        ({"combine": {**COMBINE, "bias": "low"}}, "combine.bias: must be a number"),
        ({"combine": {**COMBINE, "power": 2}}, "combine.power: is not a known key here"),
        ({"combine": {"model": "warm", "label": "warm"}}, "combine.weight: is missing"),
        ({"combine": {**COMBINE, "model": "other"}}, "must name the model and label of run_if, warm.warm"),
        ({"run_if": {**RUN_IF, "op": "<"}}, "needs run_if with op >= or >"),
        ({"thresholds": {"red": 0.5}}, "a threshold under 0.5"),
        ({"labels": ["red", "blue"]}, "combine: is for a cascade with one label"),
        ({"kind": "network"}, "combine: is for a cascade with one label"),
    ],
)
def test_a_wrong_combination_is_refused(tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    folder = write_network(tmp_path, "deep")
    values = {"kind": "cascade", "run_if": RUN_IF, "combine": COMBINE, "thresholds": {"red": 0.6}, **changes}
    write_manifest(folder, network_values(folder, **values))
    with pytest.raises(ManifestError) as error:
        read_manifest(folder / "model.yaml")
    assert reason in str(error.value)


def test_dependencies_that_are_absent_circular_or_misshapen_are_refused(tmp_path: Path) -> None:
    write_network(tmp_path / "a")
    write_head(tmp_path / "a", of="stranger@1")
    with pytest.raises(ManifestError, match="absent models"):
        load_registry(tmp_path / "a", None, OPTIONS)
    write_network(tmp_path / "b", embedding_dimensions=4)
    write_head(tmp_path / "b")
    with pytest.raises(ManifestError, match=r"embedding_dimensions: 3 is not the 4 of mean@1"):
        load_registry(tmp_path / "b", None, OPTIONS)
    write_network(tmp_path / "d")
    write_head(tmp_path / "d", of="mean@2")
    with pytest.raises(ManifestError, match=r"warm@1 was trained on mean@2, but mean@1 is active"):
        load_registry(tmp_path / "d", None, OPTIONS)
    write_network(tmp_path / "c")
    run_if = {"model": "mean", "label": "blue", "op": ">=", "threshold": 0.5}
    write_network(tmp_path / "c", "deep", kind="cascade", run_if=run_if)
    with pytest.raises(ManifestError, match="no label 'blue'"):
        load_registry(tmp_path / "c", None, OPTIONS)


def test_a_model_whose_outputs_moved_does_not_start(tmp_path: Path) -> None:
    folder = write_network(tmp_path)
    path = folder / "golden" / "expected.json"
    rows = json.loads(path.read_text())
    rows[0]["scores"]["red"] -= 0.02
    path.write_text(json.dumps(rows))
    with pytest.raises(ManifestError, match=r"red is .* and may differ by 0\.01 on onnx"):
        load_registry(tmp_path, None, OPTIONS)
    rows[0]["scores"]["red"] += 0.015
    path.write_text(json.dumps(rows))
    load_registry(tmp_path, None, OPTIONS)


def test_an_embedding_that_turned_does_not_start(tmp_path: Path) -> None:
    folder = write_network(tmp_path)
    path = folder / "golden" / "expected.json"
    rows = json.loads(path.read_text())
    rows[0]["embedding"], rows[1]["embedding"] = rows[1]["embedding"], rows[0]["embedding"]
    path.write_text(json.dumps(rows))
    with pytest.raises(ManifestError, match="cosine"):
        load_registry(tmp_path, None, OPTIONS)


def test_a_head_whose_outputs_moved_does_not_start(tmp_path: Path) -> None:
    write_network(tmp_path)
    folder = write_head(tmp_path)
    path = folder / "golden" / "expected.json"
    rows = json.loads(path.read_text())
    rows[1]["scores"]["warm"] += 0.05
    path.write_text(json.dumps(rows))
    with pytest.raises(ManifestError, match="golden picture 2: warm"):
        load_registry(tmp_path, None, OPTIONS)


def test_a_changed_artefact_or_missing_golden_set_is_refused(tmp_path: Path) -> None:
    folder = write_network(tmp_path)
    content = (folder / "mean.onnx").read_bytes()
    (folder / "mean.onnx").write_bytes(content + b" ")
    with pytest.raises(ManifestError, match="has sha256"):
        load_registry(tmp_path, None, OPTIONS)
    (folder / "mean.onnx").write_bytes(content)
    (folder / "golden" / "expected.json").unlink()
    with pytest.raises(ManifestError, match="golden set"):
        load_registry(tmp_path, None, OPTIONS)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("kind", "thing", "kind: must be one of network, head, cascade, found 'thing'"),
        ("labels", [], "labels: must be a list of at least one text"),
        ("labels", ["a", "a"], "labels: names a label twice"),
        ("threshold", {"red": 0.5}, "threshold: is not a known key here"),
        ("thresholds", {"blue": 0.5}, "thresholds.blue: is not one of the labels"),
        ("thresholds", {"red": 1.5}, "thresholds.red: must be a number from 0.0 to 1.0"),
        ("batch", {"max_batch": 0, "max_delay_ms": 1}, "batch.max_batch: must be a whole number from 1"),
        ("artefact", {"path": "../x", "sha256": "0" * 64}, "artefact.path: must stay inside"),
        ("artefact", {"path": "x", "sha256": "0"}, "artefact.sha256: must be 64"),
        ("name", "other", "name: other@1 must lie in a folder other/1/"),
        ("golden", {"torch": {"scores": 0.1}}, "golden.torch: must be one of"),
        ("postprocess", "magic", "postprocess: 'magic' is not known"),
    ],
)
def test_a_wrong_manifest_is_refused_with_its_key_and_reason(
    tmp_path: Path, key: str, value: object, reason: str
) -> None:
    folder = write_network(tmp_path)
    write_manifest(folder, network_values(folder, **{key: value}))
    with pytest.raises(ManifestError) as error:
        load_registry(tmp_path, None, OPTIONS)
    assert reason in str(error.value)
    assert "model.yaml" in str(error.value)


def test_folders_that_are_no_models_are_named(tmp_path: Path) -> None:
    write_network(tmp_path)
    for folder in ("mean/2/golden", "empty", "high", ".git/hooks"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "high" / "model.yaml").touch()
    (tmp_path / "README.md").touch()
    assert folders_without_manifest(tmp_path) == (tmp_path / "empty", tmp_path / "high", tmp_path / "mean" / "2")


def test_a_complaint_names_the_line(tmp_path: Path) -> None:
    folder = write_network(tmp_path)
    path = folder / "model.yaml"
    lines = path.read_text().splitlines()
    at = next(index for index, line in enumerate(lines) if line.startswith("multi_label"))
    lines[at] = "multi_label: perhaps"
    path.write_text("\n".join(lines))
    with pytest.raises(ManifestError, match=rf"model\.yaml:{at + 1}: multi_label: must be true or false"):
        find_manifests(tmp_path)
    path.write_text("name: [")
    with pytest.raises(ManifestError, match=r"model\.yaml:1: not valid YAML"):
        find_manifests(tmp_path)


def test_manifests_are_read_without_running_anything(tmp_path: Path) -> None:
    folder = write_network(tmp_path)
    with (folder / "model.yaml").open("a") as file:
        file.write("twin: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ManifestError):
        find_manifests(tmp_path)
    assert yaml.safe_load("a: 1") == {"a": 1}


def test_pictures_of_several_shapes_keep_their_order(tmp_path: Path) -> None:
    folder = write_network(tmp_path)
    values = network_values(folder)
    values["input"] |= {"fit": "aspect", "multiple": 4}
    write_manifest(folder, values)
    network = load_registry(tmp_path, None, OPTIONS).network("mean")
    assert network.manifest.input is not None
    pictures = [solid(level, 0, 0, *shape) for level, shape in ((10, (40, 20)), (90, (20, 40)), (170, (40, 20)))]
    inputs = [prepare(picture, network.manifest.input) for picture in pictures]
    assert [one.pixels.shape[:2] for one in inputs] == [(8, 4), (4, 8), (8, 4)]
    output = network.infer(inputs)
    assert output.embeddings is not None
    assert output.scores[:, 0] == pytest.approx([10 / 255, 90 / 255, 170 / 255], abs=0.01)
    assert [dequantise(one)[0] for one in output.embeddings] == pytest.approx([10 / 255, 90 / 255, 170 / 255], abs=0.01)
