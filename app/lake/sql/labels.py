"""Columns of the active models in the lake's views, named from their manifests. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from app.inference.manifest import ModelManifest


@dataclass(frozen=True, slots=True)
class LabelColumn:
    """Label of a model and the column of its score."""

    label: str
    column: str
    meaning: str


@dataclass(frozen=True, slots=True)
class ModelColumns:
    """Columns of one active model: of its labels, of its version, and of the cause if it was skipped.

    `choice` and `choice_score` are set for a model that selects one of several labels: the label with the highest
    score.
    """

    model: str
    version: str
    labels: tuple[LabelColumn, ...]
    choice: str
    choice_score: str
    version_column: str
    skipped_column: str

    def all(self) -> tuple[str, ...]:
        """Return all columns of the model, in the order of the views."""
        choice = (self.choice, self.choice_score) if self.choice else ()
        labels = (label.column for label in self.labels)
        return (*choice, *labels, self.version_column, self.skipped_column)


def model_columns(manifests: Iterable[ModelManifest], taken: Collection[str] = ()) -> tuple[ModelColumns, ...]:
    """Return the columns of each model, sorted by name. A name that is taken gets a number appended."""
    used = set(taken)
    columns = []
    for manifest in sorted(manifests, key=lambda each: each.name):
        single = not manifest.multi_label and len(manifest.labels) > 1
        choice = _free(manifest.name, used) if single else ""
        choice_score = _free(f"{manifest.name}_score", used) if single else ""
        version, skipped = (_free(f"{manifest.name}_{what}", used) for what in ("version", "skipped"))
        labels = tuple(
            LabelColumn(label, _free(f"{manifest.name}_{_plain(label)}", used), _meaning(manifest, label))
            for label in manifest.labels
        )
        columns.append(ModelColumns(manifest.name, manifest.version, labels, choice, choice_score, version, skipped))
    return tuple(columns)


def _plain(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_") or "label"


def _free(wanted: str, used: set[str]) -> str:
    name, number = wanted, 2
    while name in used:
        name, number = f"{wanted}_{number}", number + 1
    used.add(name)
    return name


def _meaning(manifest: ModelManifest, label: str) -> str:
    """Return the meaning of the score from the manifest."""
    words = f"Score of `{label}` by `{manifest.name}`, 0 to 1."
    threshold = manifest.thresholds.get(label)
    reason = manifest.reasons.get(label)
    if threshold is not None:
        words += f" From {threshold:g} on it counts as found"
        words += f": `{reason.code}`. {reason.advice}" if reason is not None else "."
    return words
