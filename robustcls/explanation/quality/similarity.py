"""How alike two maps are, where either says something."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from numpy.lib.stride_tricks import sliding_window_view
from scipy.stats import rankdata

from robustcls.explanation.methods.maps import Maps

# The window of SSIM as published, and its standard deviation.
_WINDOW = 11
_BELL = 1.5
# Fewer pixels than that rank nothing.
FEWEST = 8
# Of a map's largest value; below it lies what rounding leaves of nothing.
_NOTHING = 1e-6


def spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns Spearman's rank correlation of each pair of maps, float64 [N] in [-1, 1].

    Pixels count where either map has something: two maps that are 0 at the same places, as those
    of a model that crops its images, agree on nothing but that. NaN where there is too little to
    compare: both maps are empty, fewer than `FEWEST` pixels are left, or both have one value
    there. 0 where one of the two is empty or has one value, which ranks nothing.

    Args:
        first: float [N, H, W].
        second: float [N, H, W].
    """
    pair = [maps.reshape(len(maps), -1).astype(np.float64) for maps in (first, second)]
    somewhere = says_something(pair[0]) | says_something(pair[1])
    ranks = [
        rankdata(np.where(somewhere, maps, np.nan), axis=1, nan_policy="omit") for maps in pair
    ]
    count = somewhere.sum(axis=1)
    centred = [np.where(somewhere, rank - (count[:, None] + 1) / 2, 0) for rank in ranks]
    one, other = ((rank**2).sum(axis=1) for rank in centred)
    products = (centred[0] * centred[1]).sum(axis=1)
    norms = np.sqrt(one * other)
    found = np.divide(products, norms, np.zeros(len(first)), where=norms > 0)
    return np.where((count < FEWEST) | ((one == 0) & (other == 0)), np.nan, found)


def says_something(maps: np.ndarray) -> np.ndarray:
    """Returns where maps have something, bool of their shape.

    Args:
        maps: float [N, ...]; less than a millionth of a map's largest value is nothing.
    """
    size = np.abs(maps)
    largest = size.reshape(len(maps), -1).max(axis=1).reshape(-1, *[1] * (maps.ndim - 1))
    return size > _NOTHING * largest


def ssim(first: Maps, second: Maps) -> np.ndarray:
    """Returns the structural similarity of each pair of maps, float64 [N] in [-1, 1].

    Windows count by how much of them either map has something in; NaN where both are empty.

    Source: Wang et al., "Image quality assessment: from error visibility to structural
    similarity", 2004; window 11, or the side of a smaller map. The range is that of the scale
    both maps share, from its negative end when there is one.
    """
    scale = np.maximum(first.size, second.size)[:, None, None]
    scale = np.where(scale > 0, scale, 1)
    pair = [(maps.signed / scale).astype(np.float32) for maps in (first, second)]
    window = min(_WINDOW, *first.positive.shape[1:])
    value_range = 1.0 if first.negative is None else 2.0
    found = tf.image.ssim(
        *(maps[..., None] for maps in pair),
        max_val=value_range,
        filter_size=window,
        return_index_map=True,
    ).numpy()
    somewhere = says_something(pair[0]) | says_something(pair[1])
    # Windows count by how much of them says something, seen as SSIM sees it.
    places = np.arange(window) - (window - 1) / 2
    bell = np.exp(-((places / _BELL) ** 2) / 2)
    share = somewhere.astype(np.float64)
    for axis in (1, 2):
        share = sliding_window_view(share, window, axis=axis) @ (bell / bell.sum())
    total, weight = (share * found).sum(axis=(1, 2)), share.sum(axis=(1, 2))
    return np.divide(total, weight, np.full(len(weight), np.nan), where=weight > 0)
