"""KernelSHAP."""

from __future__ import annotations

from typing import Any

import numpy as np

from robustcls.explanation.methods.maps import Maps
from robustcls.explanation.methods.masking import scores_behind_masks
from robustcls.explanation.methods.registry import register_explanation

# The players are the cells of a grid of at most so many a side.
_CELLS = 7


@register_explanation()
def kernel_shap(explainer: Any, images: np.ndarray, classes: np.ndarray) -> Maps:
    """Shapley values of the cells of a grid, each spread evenly over its pixels.

    The players are 7 x 7 cells; whoever is out of the coalition turns black. Their values are those
    of the linear model that fits `explainer.masks` coalitions best, drawn by the Shapley kernel
    with `explainer.seed`, each beside the coalition of all others; the values add up to the
    difference of the logit from a black image's. Only outputs are needed.

    Source: Lundberg and Lee, "A unified approach to interpreting model predictions", 2017, section
    4.1; Covert and Lee, "Improving KernelSHAP", 2021, sections 3.1 and 4 for the constraint and the
    pairs.
    """
    height, width = images.shape[1:3]
    cells = min(_CELLS, height), min(_CELLS, width)
    rows, columns = (
        np.arange(side) * count // side for side, count in zip((height, width), cells, strict=True)
    )
    players = rows[:, None] * cells[1] + columns
    joined = coalitions(cells[0] * cells[1], explainer.masks, explainer.seed)
    # The last two are the empty coalition and that of all.
    ends = np.stack([np.zeros_like(joined[0]), np.ones_like(joined[0])])
    every = np.concatenate([joined, ends])

    def make(first: int, last: int) -> np.ndarray:
        return every[first:last][:, players]

    found = scores_behind_masks(explainer, images, classes, len(every), make)
    scores = np.concatenate([scores for _, scores in found], axis=1).astype(np.float64)
    nothing, everything = scores[:, -2:-1], scores[:, -1]
    values = shapley_values(joined, scores[:, :-2] - nothing, everything - nothing[:, 0])
    shares = values / np.bincount(players.ravel(), minlength=values.shape[1])
    return Maps.of_signed(shares[:, players].astype(np.float32), attribution=True, resolution=cells)


def coalitions(players: int, count: int, seed: int) -> np.ndarray:
    """Returns coalitions drawn by the Shapley kernel, float32 [count, players] of 0 and 1.

    Args:
        players: how many there are, at least 1.
        count: of the coalitions, neither empty nor of all; the complement follows on each.
        seed: of the draws.
    """
    generator = np.random.default_rng(seed)
    pairs = -(-count // 2)
    sizes = np.arange(1, max(2, players))
    kernel = 1 / (sizes * np.maximum(players - sizes, 1))
    chosen = generator.choice(sizes, pairs, p=kernel / kernel.sum())
    ranks = generator.random((pairs, players)).argsort(axis=1).argsort(axis=1)
    joined = ranks < chosen[:, None]
    both = np.stack([joined, ~joined], axis=1).reshape(-1, players)
    return both[:count].astype(np.float32)


def shapley_values(joined: np.ndarray, gains: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Returns the values that explain the gains of coalitions best, float64 [N, players].

    Least squares under the constraint that the values add up to `total`.

    Args:
        joined: float [K, players], drawn by the Shapley kernel.
        gains: float [N, K], of each coalition over the empty one.
        total: float [N], the gain of all players.
    """
    joined = joined.astype(np.float64)
    # Fewer coalitions than players leave some of them alike.
    inverse = np.linalg.pinv(joined.T @ joined / len(joined), hermitian=True)
    free = gains @ joined / len(joined) @ inverse
    ones = inverse.sum(axis=0)
    return free + (total - free.sum(axis=1))[:, None] * ones / ones.sum()
