"""Plots of accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from robustcls.runs import atomic


def plot_accuracy(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    *,
    x_label: str,
    y_label: str,
    path: Path | str,
    marker: str = "o",
) -> None:
    """Writes a PNG with one line a model.

    Args:
        curves: (x, accuracy in [0, 1]) points by model.
        x_label: of the horizontal axis, which begins at 0.
        y_label: of the vertical axis, in %.
        path: the PNG to write, whole or not at all.
        marker: of Matplotlib, at each point.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    for name, points in curves.items():
        places, accuracies = zip(*points, strict=True)
        axes.plot(places, [100 * value for value in accuracies], marker=marker, label=name)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_ylim(0, 100)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png")
