"""Pointing game and mass in a mask: whether maps are where what counts is known to be."""

from __future__ import annotations

import numpy as np

from robustcls._validation import InputError
from robustcls.explanation.quality.measures.trial import Trial


def pointing_game(trial: Trial) -> np.ndarray:
    """Whether the most important pixel is in the mask; the share of those that are, for ties.

    Source: Zhang et al., "Top-down neural attention by excitation backprop", 2016, section 4.1,
    without tolerance. NaN for an empty mask or map.
    """
    relevance, masks = _flat(trial)
    highest = relevance == relevance.max(axis=1, keepdims=True)
    hits = (highest & masks).sum(axis=1) / highest.sum(axis=1)
    return np.where(masks.any(axis=1) & relevance.any(axis=1), hits, np.nan)


def mass_in_mask(trial: Trial) -> np.ndarray:
    """The share of a map, of what speaks for the class, that is in the mask.

    Source: Arras et al., "CLEVR-XAI", 2020, section 2.4 (relevance mass accuracy). NaN for an
    empty mask or map.
    """
    relevance, masks = _flat(trial)
    mass = np.maximum(relevance, 0).astype(np.float64)
    total = mass.sum(axis=1)
    told = (total > 0) & masks.any(axis=1)
    return np.divide((mass * masks).sum(axis=1), total, np.full(len(total), np.nan), where=told)


def check_masks(masks: object, count: int, size: tuple[int, int]) -> np.ndarray:
    """Returns masks that fit images.

    Args:
        masks: bool [N, H, W], or what becomes that.
        count: of the images.
        size: (H, W) of the images.

    Raises:
        InputError: they are of another type or shape, or all are empty.
    """
    found = np.asarray(masks)
    shape = (count, *size)
    if found.shape != shape or found.dtype != bool:
        raise InputError(
            f"masks must be bool {shape}, one for each image and of its size; received "
            f"{found.dtype} {found.shape}."
        )
    if not found.any():
        raise InputError("masks must mark something; all of them are empty.")
    return found


def _flat(trial: Trial) -> tuple[np.ndarray, np.ndarray]:
    """Relevance float32 and masks bool, both [N, pixels]."""
    masks = np.zeros(trial.images.shape[:3], bool) if trial.masks is None else trial.masks
    count = len(trial.images)
    return trial.maps.relevance.reshape(count, -1), masks.reshape(count, -1)
