"""Scores of the frames of several films: each film by itself, and all together."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter1d
from sklearn.metrics import roc_auc_score

from robustcls._validation import InputError, check_labels

#: Standard deviation of the smoothing, in frames: half a second of UCSD's ten frames a second.
SMOOTHING = 5.0


def normalized_scores(scores: Any, films: Any, *, smoothing: float = 0.0) -> np.ndarray:
    """Returns the scores with the lowest of each film at 0 and the highest at 1, float64 [N].

    It takes the whole film to know its extremes, and each film gets an alarm, also one without
    anomalies: figures of normalized scores are of what is most anomalous within a film.

    Args:
        scores: float [N], higher = more anomalous, the frames of a film in order.
        films: [N], the name of each frame's film.
        smoothing: standard deviation in frames of a Gaussian along each film, before; 0 smooths
            nothing (float, default 0.0).

    Raises:
        InputError: no finite scores [N], or films of another number.

    Source: Gong et al., 2019, "Memorizing Normality to Detect Anomaly", section 4.2.
    """
    scores, films = np.asarray(scores, np.float64), np.asarray(films)
    if scores.ndim != 1 or not np.isfinite(scores).all():
        raise InputError(f"scores must be finite numbers [N]; received shape {scores.shape}.")
    if films.shape != scores.shape:
        raise InputError(f"films must be {len(scores)} names; received shape {films.shape}.")
    result = np.empty_like(scores)
    for film in np.unique(films):
        own = films == film
        values = scores[own]
        if smoothing:
            values = gaussian_filter1d(values, smoothing, mode="nearest")
        result[own] = (values - values.min()) / max(np.ptp(values), np.finfo(np.float64).tiny)
    return result


def frame_figures(scores: Any, labels: Any, films: Any) -> dict[str, float]:
    """Returns AUROC of frames beside that of the scores as they are, pooled over all films.

    Args:
        scores: float [N], higher = more anomalous, the frames of a film in order.
        labels: int [N], 0 normal, 1 anomaly; both occur.
        films: [N], the name of each frame's film.

    Returns:
        `normalized_auroc`, of scores that are normalized film by film, as published figures are;
        `smoothed_auroc`, of those smoothed along the film first; `mean_film_auroc`, the mean over
        the films with frames of both kinds, where there is one.

    Raises:
        InputError: as for `normalized_scores`, or labels that are none.
    """
    scores, films = np.asarray(scores), np.asarray(films)
    labels = check_labels(labels, len(scores), 2)
    plain = normalized_scores(scores, films)
    smoothed = normalized_scores(scores, films, smoothing=SMOOTHING)
    figures = {
        "normalized_auroc": float(roc_auc_score(labels, plain)),
        "smoothed_auroc": float(roc_auc_score(labels, smoothed)),
    }
    own = [films == film for film in np.unique(films)]
    both = [chosen for chosen in own if 0 < labels[chosen].sum() < chosen.sum()]
    if both:
        each = [roc_auc_score(labels[chosen], scores[chosen]) for chosen in both]
        figures["mean_film_auroc"] = float(np.mean(each))
    return figures
