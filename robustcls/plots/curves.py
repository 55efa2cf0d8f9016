"""Lines: what a training logged, how accuracy falls."""

from __future__ import annotations

import csv
import numbers
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from robustcls._validation import InputError
from robustcls.plots.figure import COLOURS, Plot

_DASHES = ("-", "--", ":", "-.")


def training_curves(history: Any) -> Figure:
    """Returns a panel for each figure that a training logged, over the epochs.

    Args:
        history: what `fit` returned, its `history`, a `history.csv`, the folder of a run, or by
            name several of them. `val_NAME` joins NAME's panel.

    Raises:
        InputError: it is nothing of the kind, or no epoch has ended.
    """
    curves = histories(history)
    names = list(dict.fromkeys(key.removeprefix("val_") for c in curves.values() for key in c))
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = Plot(3.4 * columns, 2.6 * rows)
    for number, name in enumerate(names, 1):
        axes = figure.add_subplot(rows, columns, number)
        for at, (title, logged) in enumerate(curves.items()):
            for key, dash in ((name, "-"), (f"val_{name}", "--")):
                values = logged.get(key)
                if values:
                    label = " ".join(filter(None, [title, "validation" if key != name else ""]))
                    colour = COLOURS[at % len(COLOURS)]
                    epochs = range(1, len(values) + 1)
                    axes.plot(epochs, values, dash, color=colour, label=label or "training")
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(axes.lines) > 1:
            axes.legend(fontsize=7)
    return figure


def robustness_curve(
    curves: Any,
    *,
    x_label: str | None = None,
    y_label: str = "accuracy in %",
) -> Figure:
    """Returns how accuracy falls, a line for each model.

    Args:
        curves: (epsilon or severity, accuracy in [0, 1]) points by model, or for one model alone
            accuracies by epsilon in a dictionary; `robust_accuracy` by epsilon as `Attack.over`
            returns results; a `CorruptionReport`; or the metrics of `evaluate_models`.
        x_label: below the axis; "severity" for corruptions, else "epsilon" (str or None, default
            None).
        y_label: beside the axis (str, default "accuracy in %").

    Raises:
        InputError: there is no point.
    """
    lines, found = _lines(curves)
    if not any(lines.values()):
        raise InputError("curves must have at least one point; received none.")
    figure = Plot(5, 3.4)
    axes = figure.add_subplot()
    for at, (name, points) in enumerate(lines.items()):
        places = [place for place, _ in points]
        values = [100 * accuracy for _, accuracy in points]
        style: dict[str, Any] = {
            "color": COLOURS[at % len(COLOURS)],
            "linestyle": _DASHES[at % len(_DASHES)],
        }
        axes.plot(places, values, marker="o", markersize=4, label=name, **style)
    axes.set_ylim(0, 100)
    axes.set_xlabel(x_label or found)
    axes.set_ylabel(y_label)
    axes.grid(color="#e4e8ec")
    if len(lines) > 1:
        axes.legend()
    return figure


def histories(history: Any) -> dict[str, dict[str, list[float]]]:
    """Returns by name what trainings logged after each epoch: figure by figure, without `epoch`.

    Args:
        history: as for `training_curves`.

    Raises:
        InputError: as for `training_curves`.
    """
    found: dict[str, Any]
    if isinstance(history, str | Path):
        found = _read(Path(history))
    elif isinstance(getattr(history, "history", None), Mapping):
        found = {"": history.history}
    elif isinstance(history, Mapping) and all(_numbers(values) for values in history.values()):
        found = {"": history}
    elif isinstance(history, Mapping):
        parts = {name: histories(part) for name, part in history.items()}
        found = {
            " ".join(filter(None, [name, inner])): logged
            for name, part in parts.items()
            for inner, logged in part.items()
        }
    else:
        raise InputError(
            "history must be what fit returned, its dictionary, a history.csv or a run; received "
            f"{type(history).__name__}."
        )
    curves = {
        name: {key: list(values) for key, values in logged.items() if key != "epoch"}
        for name, logged in found.items()
    }
    if not any(values for logged in curves.values() for values in logged.values()):
        raise InputError("history must have at least one epoch; received none.")
    return curves


def _read(path: Path) -> dict[str, dict[str, list[float]]]:
    files = [path] if path.is_file() else sorted(path.glob("**/history.csv"))
    if not files:
        raise InputError(f"history must be a history.csv or a run with one; {path} has none.")
    found = {}
    for file in files:
        with file.open(encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        name = "" if file == path else file.parent.name
        # What an epoch did not log is left out.
        found[name] = {
            key: [float(row[key]) for row in rows if row[key]] for key in (rows[0] if rows else {})
        }
    return found


def _numbers(values: Any) -> bool:
    return not isinstance(values, str | Mapping) and isinstance(values, Sequence)


def _lines(curves: Any) -> tuple[dict[str, list[tuple[float, float]]], str]:
    """Points by model, and what they are over."""
    if hasattr(curves, "mean_by_severity"):
        points = list(zip(curves.severities, curves.mean_by_severity, strict=True))
        if curves.clean is not None:
            points.insert(0, (0, curves.clean))
        return {curves.scale: points}, "severity"
    if not isinstance(curves, Mapping):
        raise InputError(
            f"curves must be points by model, results by epsilon or metrics; received "
            f"{type(curves).__name__}."
        )
    if "accuracy_over_epsilon" in curves:
        return dict(curves["accuracy_over_epsilon"]), "epsilon"
    if all(hasattr(result, "robust_accuracy") for result in curves.values()):
        points = [(epsilon, result.robust_accuracy) for epsilon, result in sorted(curves.items())]
        return {"": points}, "epsilon"
    alone = all(isinstance(accuracy, numbers.Real) for accuracy in curves.values())
    by_model = {"": curves} if alone else curves
    return {str(name): _points(points) for name, points in by_model.items()}, "epsilon"


def _points(points: Any) -> list[tuple[float, float]]:
    """Pairs of a list or of a dictionary."""
    try:
        pairs = points.items() if isinstance(points, Mapping) else points
        return sorted((float(place), float(accuracy)) for place, accuracy in pairs)
    except (TypeError, ValueError):
        raise InputError(
            "curves must hold (epsilon, accuracy) points or a dictionary of them for each model; "
            f"received {points!r:.80}."
        ) from None
