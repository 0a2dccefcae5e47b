"""The train verb writes a folder that loads, and models evaluate measures it: on cuts of packaged photographs."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from app.inference.backbone import TAP, read_branch
from app.inference.efficientnet import HEAD_CHANNELS
from app.inference.loading import load_registry
from app.inference.manifest import read_manifest
from app.inference.preprocessing import normalise, prepare
from app.inference.registry import InferenceOptions
from app.training.backbone import float_graph
from app.training.branch import first_file, first_weights, train_branch
from app.training.folder import packaged_photographs
from app.training.nsfw import SPEC
from app.training.pictures import as_picture, labelled_pictures, open_rgb
from app.training.torch_file import read_torch_file

ROOT = Path(__file__).resolve().parents[3]
PICTURES_PER_CLASS = 20
POOLED = f"{TAP}branch_pooled"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("chelsea", "coffee", "flower"):
        with Image.open(packaged_photographs()[name]) as image:
            photograph = image.convert("RGB")
        (folder / name).mkdir()
        rng = random.Random(name)
        for number in range(PICTURES_PER_CLASS):
            left, top = rng.randint(0, photograph.width // 4), rng.randint(0, photograph.height // 4)
            cut = photograph.crop((left, top, left + photograph.width * 3 // 4, top + photograph.height * 3 // 4))
            cut.resize((360, 280)).save(folder / name / f"{number}.jpg", quality=90)
    return folder


@pytest.fixture(scope="module")
def few(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures of each class: tuning a branch looks at each in ten views."""
    folder = tmp_path_factory.mktemp("few")
    for name in ("chelsea", "coffee", "flower"):
        (folder / name).mkdir()
        for number in range(2):
            shutil.copy(tree / name / f"{number}.jpg", folder / name)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(ROOT / "models" / "nsfw", folder / "nsfw")
    return folder


def sightline(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=250, check=False
    )


def test_a_trained_category_head_loads_and_knows_its_classes(tree: Path, models: Path, tmp_path: Path) -> None:
    options = ("--models", str(models), "--cache", str(tmp_path), "--epochs", "6", "--threads", "2")
    ran = sightline("train", "category", "--data", str(tree), "--json", *options)
    assert ran.returncode == 0, ran.stderr
    folder = models / "category" / "1"
    told = json.loads(ran.stdout)
    assert (told["model"], told["folder"]) == ("category@1", str(folder))
    assert told["quality"] == dict(read_manifest(folder / "model.yaml").quality) != {}
    assert {path.name for path in folder.iterdir()} == {
        "model.yaml",
        "category.keras",
        "README.md",
        "report.png",
        "golden",
    }
    registry = load_registry(models, None, InferenceOptions(runtime="onnx", device="cpu", threads=2))
    assert registry.manifest("category").labels == ("chelsea", "coffee", "flower")
    measured = sightline("models", "evaluate", "--data", str(tree), "--models-dir", str(models), "--json")
    assert measured.returncode == 0, measured.stderr
    figures = json.loads(measured.stdout)
    assert figures["category"]["accuracy"] > 0.9
    assert figures["category"]["by_class"]["coffee"]["pictures"] == PICTURES_PER_CLASS
    assert figures["nsfw"]["false_alarm_rate"] == 0.0
    listed = json.loads(sightline("models", "ls", "--models-dir", str(models), "--json").stdout)
    assert [row["model"] for row in listed] == ["category@1", "nsfw@1"]


@pytest.mark.parametrize(("name", "expected"), [("coffee", 967), ("chelsea", 285)])
def test_the_branch_starts_from_weights_that_know_what_they_were_trained_on(name: str, expected: int) -> None:
    """ImageNet's classes 967, espresso, and 285, Egyptian cat: folding and our input's normalisation lose nothing."""
    given = read_torch_file(first_file())
    graph = float_graph(first_weights(SPEC))
    graph.graph.output.append(onnx.helper.make_tensor_value_info(POOLED, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    picture = as_picture(open_rgb(packaged_photographs()[name]))
    batch = normalise([prepare(picture, SPEC).pixels], SPEC)
    (pooled,) = session.run([POOLED], {session.get_inputs()[0].name: batch})
    means = pooled[0, :HEAD_CHANNELS] ** 2
    assert int((given["_fc.weight"] @ means + given["_fc.bias"]).argmax()) == expected


def test_the_branch_verb_rebuilds_the_backbone(few: Path, tmp_path: Path) -> None:
    options = ("--models", str(tmp_path), "--epochs", "1", "--threads", "2")
    ran = sightline("train", "branch", "--data", str(few), *options)
    assert ran.returncode == 0, ran.stderr
    folder = tmp_path / "nsfw" / "1"
    assert {path.name for path in folder.iterdir()} == {
        "model.yaml",
        "open_nsfw_int8.onnx",
        "branch.npz",
        "README.md",
        "golden",
    }
    ours, shipped = read_branch(folder / "branch.npz"), read_branch(ROOT / "models" / "nsfw" / "1" / "branch.npz")
    assert {name: value.shape for name, value in ours.items()} == {name: value.shape for name, value in shipped.items()}
    trained, frozen = "branch/head/kernel", "branch/stem/kernel"
    assert not np.array_equal(ours[trained], shipped[trained]), "it was trained, not copied"
    assert np.array_equal(ours[frozen], shipped[frozen])
    graph = float_graph(ours)
    onnx.checker.check_model(graph)
    assert [output.name for output in graph.graph.output] == ["outputs", "embedding"]
    registry = load_registry(tmp_path, None, InferenceOptions(runtime="onnx", device="cpu", threads=2))
    assert registry.manifest("nsfw").quality["validation_pictures"] == 1.0


def test_the_same_pictures_and_seed_tune_the_same_branch(few: Path, tmp_path: Path) -> None:
    def tune(name: str, seed: int) -> bytes:
        target = tmp_path / name
        pictures = labelled_pictures(few)
        train_branch(pictures, pictures, SPEC, target, epochs=1, seed=seed, threads=2, progress=lambda *_: None)
        return target.read_bytes()

    first = tune("first.npz", 1)
    assert tune("again.npz", 1) == first
    assert tune("other.npz", 2) != first


def test_verify_fails_on_a_damaged_folder(models: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "models"
    shutil.copytree(models / "nsfw", damaged / "nsfw")
    assert sightline("models", "verify", "--models-dir", str(damaged)).returncode == 0
    (damaged / "nsfw" / "1" / "open_nsfw_int8.onnx").write_bytes(b"nothing")
    ran = sightline("models", "verify", "--models-dir", str(damaged))
    assert ran.returncode == 1
    assert "sha256" in ran.stdout


def test_a_folder_without_pictures_is_one_clear_sentence(models: Path, tmp_path: Path) -> None:
    ran = sightline("train", "category", "--data", str(tmp_path), "--models", str(models))
    assert ran.returncode == 2
    assert "holds no pictures in class folders" in ran.stderr
