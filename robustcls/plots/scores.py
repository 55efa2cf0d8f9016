"""How far a detector's scores of normal images and anomalies lie apart."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from robustcls._validation import InputError, check_labels
from robustcls.plots.figure import COLOURS, Plot


def score_histogram(
    scores: np.ndarray, labels: np.ndarray | None = None, threshold: float | None = None
) -> Figure:
    """Returns histograms of a detector's scores, of normal images and anomalies apart.

    Args:
        scores: float [N], higher is more anomalous.
        labels: int [N], 0 normal, 1 anomaly; None when they are not known (default None).
        threshold: scores above it are alarms; None draws no line (float or None, default None).

    Raises:
        InputError: scores are no finite [N], or labels are others than 0 and 1.
    """
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 1 or not len(scores) or not np.isfinite(scores).all():
        raise InputError(f"scores must be finite [N], N >= 1; received shape {scores.shape}.")
    kinds = [("images", np.ones(len(scores), bool), COLOURS[0])]
    if labels is not None:
        known = check_labels(labels, len(scores), 2)
        kinds = [("normal", known == 0, COLOURS[0]), ("anomalies", known == 1, COLOURS[1])]
    figure = Plot(5, 3.3, dpi=150)
    axes = figure.add_subplot()
    ends = scores if threshold is None else np.append(scores, threshold)
    edges = np.histogram_bin_edges(ends, 60).tolist()
    for name, chosen, colour in kinds:
        if chosen.any():
            weights = np.full(int(chosen.sum()), 100 / chosen.sum())
            axes.hist(scores[chosen], edges, weights=weights, alpha=0.6, label=name, color=colour)
    if threshold is not None:
        axes.axvline(threshold, color="black", linestyle="--", label="threshold")
    axes.set_xlabel("anomaly score")
    axes.set_ylabel("images of their kind in %")
    axes.legend()
    return figure
