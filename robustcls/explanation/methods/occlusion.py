"""Occlusion."""

from __future__ import annotations

from typing import Any

import numpy as np

from robustcls.explanation.methods.maps import Maps
from robustcls.explanation.methods.masking import scores_behind_masks
from robustcls.explanation.methods.registry import register_explanation

# Where no window is given, that many go side by side along the shorter side.
_WINDOWS = 8


@register_explanation()
def occlusion(explainer: Any, images: np.ndarray, classes: np.ndarray) -> Maps:
    """What the logit loses when a black window covers a pixel: the mean of all that do.

    Windows are `explainer.window` pixels wide, an eighth of the shorter side where that is None,
    and move by half their width. Only outputs are needed.

    Source: Zeiler and Fergus, "Visualizing and understanding convolutional networks", 2013,
    section 4.2.
    """
    height, width = images.shape[1:3]
    side = explainer.window or max(1, round(min(height, width) / _WINDOWS))
    rows, columns = (_covering(length, side) for length in (height, width))
    places = [(row, column) for row in range(len(rows)) for column in range(len(columns))]

    def make(first: int, last: int) -> np.ndarray:
        return np.stack([1 - np.outer(rows[r], columns[c]) for r, c in places[first:last]])

    whole = explainer.scores(images)
    whole = np.take_along_axis(whole, classes[:, None], 1)
    total = np.zeros(images.shape[:3], np.float32)
    for masks, scores in scores_behind_masks(explainer, images, classes, len(places), make):
        total += np.tensordot(whole - scores, 1 - masks, 1)
    covered = np.outer(rows.sum(axis=0), columns.sum(axis=0))
    return Maps.of_signed(total / covered, attribution=True, resolution=(len(rows), len(columns)))


def _covering(length: int, side: int) -> np.ndarray:
    """float32 [windows, length], 1 where a window is; the last ends where the image does."""
    side = min(side, length)
    step = max(1, side // 2)
    starts = np.unique(np.minimum(np.arange(0, length - side + step, step), length - side))
    pixels = np.arange(length)
    within = (pixels >= starts[:, None]) & (pixels < starts[:, None] + side)
    return within.astype(np.float32)
