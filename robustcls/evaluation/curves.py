"""Plots of accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from robustcls.runs import atomic


def plot_accuracy_over_epsilon(
    curves: Mapping[str, Sequence[tuple[float, float]]], attack: str, norm: str, path: Path | str
) -> None:
    """Writes a PNG with one line a model.

    Args:
        curves: (epsilon, accuracy in [0, 1]) points by model.
        attack: the attack's name, for the axis.
        norm: "inf" or "2", for the axis.
        path: the PNG to write, whole or not at all.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    for name, points in curves.items():
        epsilons, accuracies = zip(*points, strict=True)
        axes.plot(epsilons, [100 * value for value in accuracies], marker="o", label=name)
    ball = "L-infinity" if norm == "inf" else "L2"
    axes.set_xlabel(f"epsilon ({ball}, images in [0, 1])")
    axes.set_ylabel(f"accuracy under {attack} in %")
    axes.set_ylim(0, 100)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png")
