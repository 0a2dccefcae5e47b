"""Plots of answers: the first column is x, every numeric column is a line or a series of bars."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final

from app.errors import ConfigurationError, QueryRefused
from app.lake.sql.output import cell, is_number

# With more bars they and their names are illegible.
_MOST_BARS: Final = 100


def plot(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "") -> None:
    """Draw `rows` to `path` (.png, .svg, .pdf): lines over times or numbers, bars over anything else.

    Raises ConfigurationError if matplotlib is missing or cannot write the file, QueryRefused without numeric columns.
    """
    numeric = [at for at in range(1, len(columns)) if is_number(row[at] for row in rows)]
    if not numeric:
        raise QueryRefused("--plot needs rows, a first column for x, and a column of numbers after it")
    try:
        import matplotlib
    except ImportError as error:
        raise ConfigurationError(
            "--plot needs matplotlib, which is not installed: ./sightline --install dev"
        ) from error

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9.6, 5.4), layout="constrained")
    places = [row[0] for row in rows]
    if all(isinstance(place, date) for place in places) or is_number(places):
        order = sorted(range(len(rows)), key=lambda at: float("-inf") if places[at] is None else _sortable(places[at]))
        for at in numeric:
            values = [None if rows[index][at] is None else float(rows[index][at]) for index in order]
            axes.plot([places[index] for index in order], values, marker="o", label=columns[at])
    else:
        _bars(axes, columns, rows[:_MOST_BARS], numeric)
    axes.set_xlabel(columns[0])
    axes.set_title(title)
    axes.legend()
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"cannot draw to {path}: {error}") from error
    finally:
        pyplot.close(figure)


def _sortable(place: Any) -> Any:
    return place.isoformat() if isinstance(place, date) else float(place)


def _bars(axes: Any, columns: Sequence[str], rows: Sequence[Sequence[Any]], numeric: Sequence[int]) -> None:
    width = 0.8 / len(numeric)
    for number, at in enumerate(numeric):
        places = [place + (number - (len(numeric) - 1) / 2) * width for place in range(len(rows))]
        axes.bar(places, [float(row[at] or 0) for row in rows], width, label=columns[at])
    axes.set_xticks(range(len(rows)), [cell(row[0]) for row in rows], rotation=45, ha="right")
