"""Model manifests: `model.yaml` parsed into frozen values. Each error has file, line and reason."""

from __future__ import annotations

import hashlib
import importlib.util
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from app.domain import plain_yaml
from app.errors import ManifestError
from app.inference.model_input import Fit, ImageInput

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_VERSION = re.compile(r"[0-9]+(\.[0-9]+){0,2}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MOST_SHOWN = 200


class Kind(StrEnum):
    """Kind of a model, by its input."""

    NETWORK = "network"
    HEAD = "head"
    CASCADE = "cascade"


class Runtime(StrEnum):
    """Runtime of the artefact."""

    ONNX = "onnx"
    KERAS = "keras"
    SAVED_MODEL = "saved_model"


@dataclass(frozen=True, slots=True)
class Artefact:
    """A file in the model's folder or, if `package` is set, in an installed Python package."""

    path: str
    sha256: str
    package: str = ""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Limits of a micro-batch: it closes at `max_batch` pictures or `max_delay_ms` after its first."""

    max_batch: int
    max_delay_ms: int


_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
}


@dataclass(frozen=True, slots=True)
class RunIf:
    """Condition of a cascade: the score of another model's label compared with a threshold."""

    model: str
    label: str
    op: str
    threshold: float

    def holds(self, value: float) -> bool:
        """Return whether the cascade must run, given the score of `model`'s `label`."""
        return _OPERATORS[self.op](value, self.threshold)


_LEAST_PROBABILITY = 1e-4
"""Scores are clipped to this distance from 0 and 1 before the logit, so that no score has infinite weight."""


@dataclass(frozen=True, slots=True)
class Combine:
    """Combination of a cascade's score with its gate's: a logistic function of both logits.

    A skipped cascade is not combined: it gets the gate's score, which is below every threshold.
    """

    model: str
    label: str
    weight: float
    own_weight: float
    bias: float

    def score(self, other: float, own: float) -> float:
        """Return the combined score, from 0 to 1, of the other model's and the cascade's own score."""
        value = self.weight * logit(other) + self.own_weight * logit(own) + self.bias
        return 1.0 / (1.0 + math.exp(-value))


def logit(score: float) -> float:
    """Return the logarithm of a score's odds, about -9.2 to 9.2."""
    kept = min(1.0 - _LEAST_PROBABILITY, max(_LEAST_PROBABILITY, score))
    return math.log(kept / (1.0 - kept))


@dataclass(frozen=True, slots=True)
class Reason:
    """Reason to publish if a label's score reaches its threshold: a stable code, and advice for the seller."""

    code: str
    advice: str


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Tolerance of the golden check: absolute for scores, by cosine for embeddings."""

    scores: float
    embedding_cosine: float


@dataclass(frozen=True, slots=True)
class ModelManifest:
    """Manifest of one model version. `folder` contains its files. Equal manifests mean equal scores."""

    name: str
    version: str
    kind: Kind
    runtime: Runtime
    artefact: Artefact
    labels: tuple[str, ...]
    activation: str
    multi_label: bool
    thresholds: Mapping[str, float]
    reasons: Mapping[str, Reason]
    batch: BatchLimits
    input: ImageInput | None
    embedding_of: str
    embedding_dimensions: int
    run_if: RunIf | None
    tolerances: Mapping[str, Tolerance]
    owner: str
    licence: str
    trained_on: str
    quality: Mapping[str, float]
    folder: Path
    outputs: Mapping[str, str] = field(default_factory=dict)
    twin: Artefact | None = None
    branch: Artefact | None = None
    postprocess: str = ""
    options: Mapping[str, float] = field(default_factory=dict)
    combine: Combine | None = None
    # Backbone version on which a head was trained. An embedding of another version has the same shape but other values.
    embedding_version: str = ""
    # The model rates the photograph as a whole: only renditions of a whole frame count.
    whole: bool = False

    @property
    def id(self) -> str:
        """`name@version`, as logs, activations and rescorings write it."""
        return f"{self.name}@{self.version}"

    @property
    def preprocessing_version(self) -> str:
        """Part of a score's cache key. Empty for a head: it has its backbone's, which the registry knows."""
        return self.input.version if self.input is not None else ""

    def depends_on(self) -> tuple[str, ...]:
        """Return the names of the models whose scores this model needs."""
        names = (self.embedding_of, self.run_if.model if self.run_if else "")
        return tuple(name for name in names if name)


def artefact_path(manifest: ModelManifest, artefact: Artefact | None = None) -> Path:
    """Return the path of an artefact (default: the main one). Raises ManifestError if absent or changed (sha256)."""
    artefact = artefact or manifest.artefact
    where = manifest.folder / "model.yaml"
    if artefact.package:
        spec = importlib.util.find_spec(artefact.package)
        roots = list(spec.submodule_search_locations or ()) if spec else []
        if not roots:
            raise ManifestError(f"{where}: the package {artefact.package!r} that ships the artefact is not installed")
        path = Path(roots[0]) / artefact.path
    else:
        path = manifest.folder / artefact.path
    if not path.is_file():
        raise ManifestError(f"{where}: the artefact {artefact.path!r} does not exist")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    if sha256 != artefact.sha256:
        raise ManifestError(f"{where}: the artefact {artefact.path!r} has sha256 {sha256}, not {artefact.sha256}")
    return path


class _Section:
    """One mapping of the file, with the lines of its keys, so that each complaint names its line."""

    def __init__(self, node: yaml.Node, path: Path, name: str) -> None:
        self.path = path
        self.name = name
        self.line = node.start_mark.line + 1
        if not isinstance(node, yaml.MappingNode):
            raise ManifestError(f"{path}:{self.line}: {name or 'the file'} must be a mapping")
        self.nodes: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ManifestError(f"{path}:{key.start_mark.line + 1}: a key must be text")
            text = str(key.value)
            if text in self.nodes:
                raise ManifestError(f"{path}:{key.start_mark.line + 1}: {_shown(text)} is given twice")
            self.nodes[text] = value
        self.seen: set[str] = set()

    def fail(self, key: str, reason: str) -> ManifestError:
        node = self.nodes.get(key)
        line = node.start_mark.line + 1 if node else self.line
        full = f"{self.name}.{key}" if self.name else key
        return ManifestError(f"{self.path}:{line}: {full}: {reason}")

    def has(self, key: str) -> bool:
        return key in self.nodes

    def value(self, key: str, default: Any = None) -> Any:
        self.seen.add(key)
        if key not in self.nodes:
            if default is None:
                raise self.fail(key, "is missing")
            return default
        try:
            return _construct(self.nodes[key])
        except ValueError as error:
            raise self.fail(key, f"has a value that cannot be read: {error}"[:_MOST_SHOWN]) from error

    def text(self, key: str, default: str | None = None) -> str:
        value = self.value(key, default)
        if not isinstance(value, str):
            raise self.fail(key, f"must be text (quote it), found {_shown(value)}")
        return value

    def whole(self, key: str, default: int | None = None, low: int = 1, high: int = 1_000_000) -> int:
        value = self.value(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.fail(key, f"must be a whole number from {low} to {high}, found {_shown(value)}")
        return value

    def number(self, key: str, low: float, high: float) -> float:
        value = self.value(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.fail(key, f"must be a number from {low} to {high}, found {_shown(value)}")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self.value(key, default) if key in self.nodes else default
        self.seen.add(key)
        if not isinstance(value, bool):
            raise self.fail(key, f"must be true or false, found {_shown(value)}")
        return value

    def one_of(self, key: str, allowed: tuple[str, ...], default: str | None = None) -> str:
        value = self.text(key, default)
        if value not in allowed:
            raise self.fail(key, f"must be one of {', '.join(allowed)}, found {_shown(value)}")
        return value

    def triple(self, key: str, default: tuple[float, float, float]) -> tuple[float, float, float]:
        value = self.value(key, list(default))
        if not isinstance(value, list) or len(value) != 3 or not all(_is_number(part) for part in value):
            raise self.fail(key, f"must be three numbers from -1e9 to 1e9, found {_shown(value)}")
        return (float(value[0]), float(value[1]), float(value[2]))

    def section(self, key: str) -> _Section:
        self.seen.add(key)
        if key not in self.nodes:
            raise self.fail(key, "is missing")
        return _Section(self.nodes[key], self.path, f"{self.name}.{key}" if self.name else key)

    def close(self) -> None:
        for key in self.nodes:
            if key not in self.seen:
                raise self.fail(key, "is not a known key here")


def _construct(node: yaml.Node) -> Any:
    """Return the value of a node. Raises ValueError where its text is not of its kind, as in a date of a 40th day."""
    try:
        return yaml.SafeLoader("").construct_document(node)
    except (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, TypeError) as error:
        raise ValueError(str(error)) from error


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e9 <= value <= 1e9


def _shown(value: Any) -> str:
    """Return a value as a complaint shows it: on one line, not longer than that."""
    try:
        text = repr(value)
    except ValueError:
        return "a number too long to print"
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def read_manifest(path: Path) -> ModelManifest:
    """Read `model.yaml`; raises ManifestError (file, line, reason) on anything missing, unknown or impossible."""
    try:
        node = plain_yaml.compose(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: cannot be read: {error}") from error
    except plain_yaml.NotPlain as error:
        raise ManifestError(f"{path}:{error.line}: {error.reason}") from error
    root = _Section(node, path, "")
    name, version = root.text("name"), root.text("version")
    if not _NAME.fullmatch(name):
        raise root.fail("name", f"must be lower case letters, digits and _, found {name!r}")
    if not _VERSION.fullmatch(version):
        raise root.fail("version", f"must be numbers with dots, found {version!r}")
    if (path.parent.parent.name, path.parent.name) != (name, version):
        raise root.fail("name", f"{name}@{version} must lie in a folder {name}/{version}/, not in {path.parent}")
    kind = Kind(root.one_of("kind", tuple(Kind)))
    runtime = Runtime(root.one_of("runtime", tuple(Runtime)))
    labels = _labels(root)
    backbone, backbone_version = _embedding_of(root) if kind is Kind.HEAD else ("", "")
    manifest = ModelManifest(
        name=name,
        version=version,
        kind=kind,
        runtime=runtime,
        artefact=_artefact(root.section("artefact")),
        labels=labels,
        activation=root.one_of("activation", ("softmax", "sigmoid", "none")),
        multi_label=root.flag("multi_label", False),
        thresholds=_thresholds(root, labels),
        reasons=_reasons(root, labels),
        batch=_batch(root.section("batch")),
        input=_input(root.section("input")) if kind is not Kind.HEAD else None,
        embedding_of=backbone,
        embedding_version=backbone_version,
        embedding_dimensions=_embedding_dimensions(root, kind),
        run_if=_run_if(root.section("run_if")) if kind is Kind.CASCADE else None,
        tolerances=_tolerances(root),
        owner=root.text("owner"),
        licence=root.text("licence"),
        trained_on=root.text("trained_on"),
        quality=_numbers(root, "quality"),
        folder=path.parent,
        outputs=_texts(root, "outputs"),
        twin=_artefact(root.section("twin")) if root.has("twin") else None,
        branch=_artefact(root.section("branch")) if root.has("branch") else None,
        postprocess=root.text("postprocess", ""),
        options=_numbers(root, "options"),
        combine=_combine(root, kind, labels) if root.has("combine") else None,
        whole=root.one_of("renditions", ("all", "whole"), "all") == "whole",
    )
    root.close()
    _check_combination(root, manifest)
    return manifest


def _labels(root: _Section) -> tuple[str, ...]:
    labels = root.value("labels")
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) and label for label in labels):
        raise root.fail("labels", "must be a list of at least one text")
    if len(set(labels)) != len(labels):
        raise root.fail("labels", "names a label twice")
    return tuple(labels)


def _artefact(section: _Section) -> Artefact:
    path, digest, package = section.text("path"), section.text("sha256"), section.text("package", "")
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise section.fail("path", "must stay inside its folder or package")
    if not _DIGEST.fullmatch(digest):
        raise section.fail("sha256", "must be 64 lower-case hex digits")
    section.close()
    return Artefact(path=path, sha256=digest, package=package)


def _thresholds(root: _Section, labels: tuple[str, ...]) -> dict[str, float]:
    if not root.has("thresholds"):
        return {}
    section = root.section("thresholds")
    for key in section.nodes:
        if key not in labels:
            raise section.fail(key, "is not one of the labels")
    return {key: section.number(key, 0.0, 1.0) for key in section.nodes}


def _reasons(root: _Section, labels: tuple[str, ...]) -> dict[str, Reason]:
    if not root.has("reasons"):
        return {}
    section = root.section("reasons")
    reasons: dict[str, Reason] = {}
    for key in section.nodes:
        if key not in labels:
            raise section.fail(key, "is not one of the labels")
        inner = section.section(key)
        reasons[key] = Reason(code=inner.text("code"), advice=inner.text("advice"))
        inner.close()
    return reasons


def _batch(section: _Section) -> BatchLimits:
    limits = BatchLimits(
        max_batch=section.whole("max_batch", high=1024), max_delay_ms=section.whole("max_delay_ms", low=0, high=10_000)
    )
    section.close()
    return limits


def _input(section: _Section) -> ImageInput:
    height, width = section.whole("height", high=4096), section.whole("width", high=4096)
    image_input = ImageInput(
        height=height,
        width=width,
        version=section.text("preprocessing_version"),
        fit=Fit(section.one_of("fit", tuple(Fit), Fit.STRETCH.value)),
        resize_height=section.whole("resize_height", height, high=4096),
        resize_width=section.whole("resize_width", width, high=4096),
        multiple=section.whole("multiple", 1, high=256),
        colour_order=section.one_of("colour_order", ("rgb", "bgr")),
        layout=section.one_of("layout", ("nhwc", "nchw"), "nhwc"),
        mean=section.triple("mean", (0.0, 0.0, 0.0)),
        scale=section.triple("scale", (1.0, 1.0, 1.0)),
        statistics=section.flag("statistics", False),
    )
    if image_input.resize_height < height or image_input.resize_width < width:
        raise section.fail("resize_height", "must not be smaller than the crop that is taken from it")
    section.close()
    return image_input


def _embedding_of(root: _Section) -> tuple[str, str]:
    name, _, version = root.text("embedding_of").partition("@")
    if not name or not version:
        raise root.fail("embedding_of", f"names a model with its version, such as {name or 'nsfw'}@1")
    return name, version


def _embedding_dimensions(root: _Section, kind: Kind) -> int:
    if kind is Kind.HEAD:
        return root.whole("embedding_dimensions", high=8192)
    return root.whole("embedding_dimensions", 0, low=0, high=8192) if root.has("embedding_dimensions") else 0


def _run_if(section: _Section) -> RunIf:
    condition = RunIf(
        model=section.text("model"),
        label=section.text("label"),
        op=section.one_of("op", tuple(_OPERATORS)),
        threshold=section.number("threshold", 0.0, 1.0),
    )
    section.close()
    return condition


def _combine(root: _Section, kind: Kind, labels: tuple[str, ...]) -> Combine:
    section = root.section("combine")
    if kind is not Kind.CASCADE or len(labels) != 1:
        raise root.fail("combine", "is for a cascade with one label")
    combine = Combine(
        model=section.text("model"),
        label=section.text("label"),
        weight=section.number("weight", 0.0, 20.0),
        own_weight=section.number("own_weight", 0.0, 20.0),
        bias=section.number("bias", -50.0, 50.0),
    )
    section.close()
    return combine


def _check_combination(root: _Section, manifest: ModelManifest) -> None:
    """A combined score and a skipped one share a threshold: what was skipped must lie under it."""
    combine, run_if = manifest.combine, manifest.run_if
    if combine is None or run_if is None:
        return
    if (combine.model, combine.label) != (run_if.model, run_if.label):
        raise root.fail("combine", f"must name the model and label of run_if, {run_if.model}.{run_if.label}")
    threshold = manifest.thresholds.get(manifest.labels[0], 1.0)
    if run_if.op not in (">=", ">") or not run_if.threshold < threshold:
        raise root.fail(
            "combine",
            f"needs run_if with op >= or > and a threshold under {threshold:g}: the gate's score stands where it "
            "was skipped and must not reach the cascade's own threshold",
        )


def _tolerances(root: _Section) -> dict[str, Tolerance]:
    section = root.section("golden")
    tolerances: dict[str, Tolerance] = {}
    for key in section.nodes:
        if key not in tuple(Runtime):
            raise section.fail(key, f"must be one of {', '.join(Runtime)}")
        inner = section.section(key)
        cosine = inner.number("embedding_cosine", 0.0, 1.0) if inner.has("embedding_cosine") else 1.0
        tolerances[key] = Tolerance(scores=inner.number("scores", 0.0, 1.0), embedding_cosine=cosine)
        inner.close()
    if not tolerances:
        raise root.fail("golden", "needs the tolerance of at least one runtime")
    return tolerances


def _numbers(root: _Section, key: str) -> dict[str, float]:
    if not root.has(key):
        return {}
    section = root.section(key)
    return {name: section.number(name, -1e9, 1e9) for name in section.nodes}


def _texts(root: _Section, key: str) -> dict[str, str]:
    if not root.has(key):
        return {}
    section = root.section(key)
    return {name: section.text(name) for name in section.nodes}
