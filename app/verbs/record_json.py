"""Records as plain dictionaries for --json: times as numbers in ms, scores as model → label → value."""

from __future__ import annotations

import dataclasses
from typing import Any

from schemas.records import FlaggedImage, ImagePrediction, ModelScores


def plain_scores(scores: tuple[ModelScores, ...]) -> dict[str, dict[str, float]]:
    """Return model → label → value."""
    return {entry.model: {label.label: round(label.value, 6) for label in entry.labels} for entry in scores}


def plain_prediction(prediction: ImagePrediction) -> dict[str, Any]:
    """Return the outcome with its scores by name."""
    found = dataclasses.asdict(prediction)
    found["scores"] = plain_scores(prediction.scores)
    found["previous"] = plain_scores(prediction.previous)
    found["model_versions"] = {entry.model: entry.version for entry in prediction.scores}
    found["cached_models"] = [entry.model for entry in prediction.scores if entry.cached]
    found["skipped_models"] = {entry.model: entry.skipped for entry in prediction.scores if entry.skipped}
    found["regions"] = {
        entry.model: [dataclasses.asdict(region) for region in entry.regions]
        for entry in prediction.scores
        if entry.regions
    }
    return found


def plain_flag(flag: FlaggedImage) -> dict[str, Any]:
    """Return the flag with its rules and their conditions."""
    return dataclasses.asdict(flag)
