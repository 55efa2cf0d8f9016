"""How well maps find defects, where masks say where these are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from scipy.integrate import trapezoid
from sklearn.metrics import roc_auc_score

from anomaly.localization.boxes import Box, boxes_of_mask
from robustcls._validation import InputError, check_number

#: What a box must share with a defect's, for both to count as found.
_MATCHING = 0.5


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


def mask_overlap(maps: np.ndarray, masks: np.ndarray, threshold: float) -> tuple[float, float]:
    """Returns IoU and F1 of the pixels above a threshold with the defects, over all images.

    Args:
        maps: float [N, H, W], higher = more anomalous.
        masks: bool [N, H, W], True where a defect is.
        threshold: pixels above it are taken for a defect's.

    Raises:
        InputError: other shapes, or no pixel of one of the two kinds.
    """
    _check(maps, masks)
    found = maps > np.float32(threshold)
    both = np.count_nonzero(found & masks)
    either = np.count_nonzero(found | masks)
    return both / either, 2 * both / (both + either)


def box_iou(box: Box, other: Box) -> float:
    """Returns the share of two boxes' common area in what they cover together, in [0, 1].

    Args:
        box: one.
        other: the other.
    """
    width = min(box.right, other.right) - max(box.left, other.left)
    height = min(box.bottom, other.bottom) - max(box.top, other.top)
    common = max(width, 0) * max(height, 0)
    areas = [(b.right - b.left) * (b.bottom - b.top) for b in (box, other)]
    return common / (sum(areas) - common)


def box_overlap(boxes: Sequence[Sequence[Box]], masks: np.ndarray) -> tuple[float, float]:
    """Returns how boxes agree with those around the connected defects.

    Args:
        boxes: of each of N images, the most anomalous first.
        masks: bool [N, H, W], True where a defect is; defects touch by sides and corners.

    Returns:
        The mean over defects of the IoU with the box that fits best, 0 where there is none; and the
        F1 of boxes, where a box and a defect with an IoU of .5 or more find each other, one for
        one.

    Raises:
        InputError: boxes of another number of images, or no defect.
    """
    if len(boxes) != len(masks):
        raise InputError(f"boxes must be of {len(masks)} images; received {len(boxes)}.")
    best: list[float] = []
    matched = drawn = 0
    for found, mask in zip(boxes, masks, strict=True):
        defects = boxes_of_mask(mask)
        table = np.array([[box_iou(box, defect) for box in found] for defect in defects])
        table = table.reshape(len(defects), len(found))
        best += list(table.max(axis=1, initial=0))
        drawn += len(found)
        # The best pairs first, one for one.
        while table.size and table.max() >= _MATCHING:
            row, column = np.unravel_index(table.argmax(), table.shape)
            table[row], table[:, column] = 0, 0
            matched += 1
    if not best:
        raise InputError("masks must mark a defect; received none.")
    return float(np.mean(best)), 2 * matched / (len(best) + drawn)


def _check(maps: np.ndarray, masks: np.ndarray) -> None:
    if maps.shape != masks.shape or maps.ndim != 3:
        raise InputError(
            f"masks must have the shape of the maps, [N, H, W]; received {masks.shape} for maps "
            f"of {maps.shape}."
        )
    if masks.all() or not masks.any():
        kind = "without" if masks.all() else "of"
        raise InputError(f"masks must leave pixels of both kinds; received none {kind} a defect.")
