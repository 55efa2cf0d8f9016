"""How alike two maps are."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from scipy.stats import rankdata

from robustcls.explanation.methods.maps import Maps

# The window of SSIM as published.
_WINDOW = 11


def spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns Spearman's rank correlation of each pair of maps, float64 [N] in [-1, 1].

    0 where either map has one value only, which ranks nothing; 1 where the pair is equal.

    Args:
        first: float [N, H, W].
        second: float [N, H, W].
    """
    ranks = [rankdata(maps.reshape(len(maps), -1), axis=1) for maps in (first, second)]
    one, other = (rank - rank.mean(axis=1, keepdims=True) for rank in ranks)
    norms = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    same = (first == second).all(axis=(1, 2))
    products = (one * other).sum(axis=1)
    return np.where(same, 1.0, np.divide(products, norms, np.zeros(len(first)), where=norms > 0))


def ssim(first: Maps, second: Maps) -> np.ndarray:
    """Returns the structural similarity of each pair of maps, float64 [N] in [-1, 1].

    Source: Wang et al., "Image quality assessment: from error visibility to structural
    similarity", 2004; window 11, or the side of a smaller map. The range is that of the scale
    both maps share, from its negative end when there is one.
    """
    scale = np.maximum(first.size, second.size)[:, None, None]
    scale = np.where(scale > 0, scale, 1)
    pair = [(maps.signed / scale)[..., None].astype(np.float32) for maps in (first, second)]
    window = min(_WINDOW, *first.positive.shape[1:])
    value_range = 1.0 if first.negative is None else 2.0
    return tf.image.ssim(*pair, max_val=value_range, filter_size=window).numpy().astype(np.float64)
