"""How well maps find defects, where masks say where these are."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.integrate import trapezoid
from sklearn.metrics import roc_auc_score

from robustcls._validation import InputError, check_number


def pixel_auroc(maps: np.ndarray, masks: np.ndarray) -> float:
    """Returns the AUROC of pixels: how often a defect's pixel has a higher value than another.

    Args:
        maps: float [N, H, W], higher = more anomalous.
        masks: bool [N, H, W], True where a defect is.

    Raises:
        InputError: other shapes, or no pixel of one of the two kinds.
    """
    _check(maps, masks)
    return float(roc_auc_score(masks.ravel(), maps.ravel()))


def aupro(maps: np.ndarray, masks: np.ndarray, *, limit: float = 0.3) -> float:
    """Returns the area under the per-region overlap, in which small defects count as large ones.

    At each threshold the overlap of a connected defect is the share of it above the threshold;
    their mean is integrated over the share of other pixels above it, up to `limit`, and divided
    by `limit`. (Bergmann et al., 2020, "Uninformed Students", section 4.1.)

    Args:
        maps: float [N, H, W], higher = more anomalous.
        masks: bool [N, H, W], True where a defect is; defects touch by sides and corners.
        limit: highest share of false pixels, float in (0, 1]; 0.3 by default.

    Raises:
        InputError: other shapes, no pixel of one of the two kinds, or a limit out of range.
    """
    _check(maps, masks)
    check_number("limit", limit, above=0, maximum=1)
    weights = np.zeros(masks.shape)
    count = 0
    for mask, weight in zip(masks, weights, strict=True):
        regions, found = ndimage.label(mask, np.ones((3, 3)))
        sizes = np.bincount(regions.ravel(), minlength=found + 1)
        weight[mask] = 1 / sizes[regions[mask]]
        count += found
    order = np.argsort(-maps, axis=None, kind="stable")
    values = maps.ravel()[order]
    false = np.cumsum(~masks.ravel()[order]) / np.count_nonzero(~masks)
    overlap = np.cumsum(weights.ravel()[order]) / count
    # Pixels of one value are above a threshold together.
    last = np.append(values[1:] != values[:-1], True)
    false, overlap = np.append(0, false[last]), np.append(0, overlap[last])
    inside = false <= limit
    end = np.interp(limit, false, overlap)
    false, overlap = np.append(false[inside], limit), np.append(overlap[inside], end)
    return float(trapezoid(overlap, false) / limit)


def _check(maps: np.ndarray, masks: np.ndarray) -> None:
    if maps.shape != masks.shape or maps.ndim != 3:
        raise InputError(
            f"masks must have the shape of the maps, [N, H, W]; received {masks.shape} for maps "
            f"of {maps.shape}."
        )
    if masks.all() or not masks.any():
        kind = "without" if masks.all() else "of"
        raise InputError(f"masks must leave pixels of both kinds; received none {kind} a defect.")
