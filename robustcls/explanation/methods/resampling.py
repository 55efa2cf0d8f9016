"""Enlarges maps as tf-keras-vis does: linearly, corner on corner."""

from __future__ import annotations

import numpy as np


def enlarge(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns float32 [..., height, width].

    Args:
        maps: float32 [..., h, w].
        height: of the result, in pixels.
        width: of the result.
    """
    rows = interpolation(maps.shape[-2], height)
    columns = interpolation(maps.shape[-1], width)
    return rows @ maps @ columns.T


def interpolation(size: int, new_size: int) -> np.ndarray:
    """Returns float32 [new_size, size], the weights of linear interpolation along one side.

    The first and the last pixel stay where they are.
    """
    places = np.linspace(0, size - 1, new_size)
    left = np.minimum(places.astype(int), max(size - 2, 0))
    share = places - left
    weights = np.zeros((new_size, size))
    rows = np.arange(new_size)
    weights[rows, left] = 1 - share
    weights[rows, np.minimum(left + 1, size - 1)] += share
    return weights.astype(np.float32)
