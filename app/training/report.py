"""Report of a training run: a confusion matrix and a calibration curve as pictures, and the model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.inference.model_input import Floats


def _figure(columns: int) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, columns, figsize=(6.4 * columns, 5.6), layout="constrained")
    return figure, axes


def confusion_report(
    path: Path, classes: Sequence[str], truth: NDArray[np.int64], probabilities: Floats
) -> NDArray[np.int64]:
    """Draw confusion matrix and calibration of a single-label head; returns the matrix, rows are the truth."""
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(counts, (truth, probabilities.argmax(axis=1)), 1)
    figure, (left, right) = _figure(2)
    left.imshow(counts, cmap="Blues")
    for row in range(len(classes)):
        for column in range(len(classes)):
            if counts[row, column]:
                colour = "white" if counts[row, column] > counts.max() / 2 else "black"
                left.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=8, color=colour)
    left.set_xticks(range(len(classes)), classes, rotation=60, ha="right")
    left.set_yticks(range(len(classes)), classes)
    left.set(xlabel="predicted", ylabel="folder", title="Confusion (pictures)")
    confidence = probabilities.max(axis=1)
    _calibration(right, confidence, probabilities.argmax(axis=1) == truth)
    figure.savefig(path, dpi=80)
    return counts


def labels_report(path: Path, labels: Sequence[str], truth: Floats, probabilities: Floats) -> None:
    """Draw accuracy by label and calibration of a multi-label head."""
    figure, (left, right) = _figure(2)
    hits = (probabilities >= 0.5) == (truth >= 0.5)
    recalled = [float(hits[truth[:, i] >= 0.5, i].mean()) for i in range(len(labels))]
    spared = [float(hits[truth[:, i] < 0.5, i].mean()) for i in range(len(labels))]
    places = np.arange(len(labels))
    left.barh(places - 0.2, recalled, 0.4, label="found where it is")
    left.barh(places + 0.2, spared, 0.4, label="not claimed where it is not")
    left.set_yticks(places, labels)
    left.set(xlim=(0.5, 1.0), title="By label")
    left.legend(loc="lower left")
    _calibration(right, probabilities.ravel(), truth.ravel() >= 0.5)
    figure.savefig(path, dpi=80)


def _calibration(axis: Any, confidence: Floats, right: NDArray[np.bool_]) -> None:
    bins = np.clip((confidence * 10).astype(int), 0, 9)
    means = [
        (float(confidence[bins == b].mean()), float(right[bins == b].mean())) for b in range(10) if (bins == b).any()
    ]
    axis.plot([0, 1], [0, 1], color="grey", linewidth=1)
    axis.plot([mean for mean, _ in means], [share for _, share in means], marker="o")
    axis.set(xlabel="probability given", ylabel="share that was so", xlim=(0, 1), ylim=(0, 1), title="Calibration")


def calibration_error(confidence: Floats, right: NDArray[np.bool_]) -> float:
    """Mean gap between the probability given and the share that was so, over ten bins weighted by size."""
    bins = np.clip((confidence * 10).astype(int), 0, 9)
    gaps = [
        abs(float(confidence[bins == b].mean()) - float(right[bins == b].mean())) * float((bins == b).mean())
        for b in range(10)
        if (bins == b).any()
    ]
    return float(sum(gaps))


def write_card(
    folder: Path, title: str, sections: Mapping[str, str], measured: Mapping[str, float], pictures: Sequence[str] = ()
) -> None:
    """Write README.md, the model card."""
    lines = [f"# {title}", ""]
    for heading, body in sections.items():
        lines += [f"## {heading}", "", body.strip(), ""]
    lines += ["## Measured", "", "| what | value |", "|---|---|"]
    lines += [f"| {name.replace('_', ' ')} | {value:.4g} |" for name, value in measured.items()]
    lines += [""] + [f"![{name}]({name})" for name in pictures]
    (folder / "README.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
