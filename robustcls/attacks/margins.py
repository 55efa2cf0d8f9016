"""How far a classifier is from being wrong, and about which class, on NumPy's side."""

from __future__ import annotations

import numpy as np


def ranked(logits: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Returns the likeliest classes besides the label, the likeliest first, int64 [n, count].

    Args:
        logits: float32 [n, classes].
        labels: int64 [n], or a `MultiHot`, whose classes are those of `all_right_first`.
        count: at most all but the label.
    """
    others, own = all_right_first(logits, labels)
    np.put_along_axis(others, own[:, None], -np.inf, axis=1)
    return np.argsort(-others, axis=1, kind="stable")[:, :count]


def margins(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the highest other logit minus the label's, float32 [n].

    Of multi-hot labels: how far the class that is most nearly answered wrong is beyond 0.

    Args:
        logits: float32 [n, classes].
        labels: int64 [n], or a `MultiHot`.
    """
    logits, labels = all_right_first(logits, labels)
    own = np.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    np.put_along_axis(logits, labels[:, None], -np.inf, axis=1)
    return logits.max(axis=1) - own


def all_right_first(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns copies of logits and labels of one class an image, whatever the labels are.

    Of multi-hot labels: class 0 is that every answer is right, with the logit 0, and class k that
    the answer about class k - 1 is wrong, with that class's logit turned so that it rises then.

    Args:
        logits: float32 [n, classes].
        labels: int64 [n], or a `MultiHot`.
    """
    if labels.ndim == 1:
        return logits.copy(), labels
    turned = np.where(labels, -logits, logits)
    return np.pad(turned, [[0, 0], [1, 0]]), np.zeros(len(logits), np.int64)
