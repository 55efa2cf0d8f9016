"""RISE."""

from __future__ import annotations

from typing import Any

import numpy as np

from robustcls.explanation.methods.maps import Maps
from robustcls.explanation.methods.masking import scores_behind_masks
from robustcls.explanation.methods.registry import register_explanation

# As published: 7 x 7 cells, each of which stays with probability .5.
_CELLS = 7
_STAYS = 0.5


@register_explanation()
def rise(explainer: Any, images: np.ndarray, classes: np.ndarray) -> Maps:
    """The mean probability of the class behind the random masks that leave a pixel.

    `explainer.masks` masks, the same for all images, drawn by `explainer.seed`; what they take
    away turns black. Only outputs are needed.

    Source: Petsiuk et al., "RISE: randomized input sampling for explanation of black-box models",
    2018, section 3. The mean is over the masks drawn (their sum at a pixel), in place of those
    expected.
    """
    height, width = images.shape[1:3]
    masks = RandomMasks(explainer.masks, height, width, explainer.seed)
    total = np.zeros(images.shape[:3], np.float32)
    weight = np.zeros((height, width), np.float32)
    for chosen, scores in scores_behind_masks(
        explainer, images, classes, explainer.masks, masks.make, probabilities=True
    ):
        total += np.tensordot(scores, chosen, 1)
        weight += chosen.sum(axis=0)
    return Maps(total / np.maximum(weight, 1e-4), attribution=True, resolution=masks.cells)


class RandomMasks:
    """Coarse random masks, enlarged with a random shift and made where they are needed.

    Args:
        count: of the masks.
        height: of the images.
        width: of the images.
        seed: of the cells that stay and of the shifts.
    """

    def __init__(self, count: int, height: int, width: int, seed: int) -> None:
        generator = np.random.default_rng(seed)
        self.cells = min(_CELLS, height), min(_CELLS, width)
        self._sides = height, width
        self._stay = (generator.random((count, *self.cells)) < _STAYS).astype(np.float32)
        # One cell more than the image has, in the size of one, is where the image is cut out of.
        self._steps = [
            -(-side // cells) for side, cells in zip(self._sides, self.cells, strict=True)
        ]
        self._shifts = [generator.integers(0, step, count) for step in self._steps]

    def make(self, first: int, last: int) -> np.ndarray:
        """Returns masks `first` to `last`, float32 [last - first, H, W] in [0, 1]."""
        rows, columns = (
            _interpolation(cells, step, side, shifts[first:last])
            for cells, step, side, shifts in zip(
                self.cells, self._steps, self._sides, self._shifts, strict=True
            )
        )
        return rows @ self._stay[first:last] @ columns.transpose(0, 2, 1)


def _interpolation(cells: int, step: int, side: int, shifts: np.ndarray) -> np.ndarray:
    """float32 [n, side, cells]: linear, the middle of a cell its own, from `shifts` on."""
    scale = (cells + 1) * step / cells
    places = (np.arange(side) + shifts[:, None] + 0.5) / scale - 0.5
    places = np.clip(places, 0, cells - 1)[..., None]
    return np.maximum(0, 1 - np.abs(places - np.arange(cells))).astype(np.float32)
