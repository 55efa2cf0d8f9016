"""Pictures of what a detector does."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robustcls.runs import atomic


def plot_scores(scores: np.ndarray, labels: np.ndarray, threshold: float, path: Path | str) -> None:
    """Writes a PNG with histograms of normal images' and anomalies' scores and the threshold.

    Args:
        scores: float [N].
        labels: int [N], 0 normal, 1 anomaly.
        threshold: scores above it are alarms.
        path: the PNG to write, whole or not at all.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    edges = np.histogram_bin_edges(np.append(scores, threshold), 60).tolist()
    for kind, name, colour in ((0, "normal", "tab:blue"), (1, "anomalies", "tab:orange")):
        chosen = scores[labels == kind]
        weights = np.full(len(chosen), 100 / max(len(chosen), 1))
        axes.hist(chosen, edges, weights=weights, alpha=0.6, label=name, color=colour)
    axes.axvline(threshold, color="black", linestyle="--", label="threshold")
    axes.set_xlabel("anomaly score")
    axes.set_ylabel("images of their kind in %")
    axes.legend()
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png")
