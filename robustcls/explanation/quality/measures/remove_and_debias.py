"""ROAD: remove and debias."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import cg, splu

from robustcls.attacks import draws
from robustcls.explanation.quality.faithfulness import in_order
from robustcls.explanation.quality.measures.trial import Trial

# Of the pixels, the most important first.
SHARES = (0.1, 0.3, 0.5, 0.7)
_NOISE = 0.01
# More unknowns are solved for step by step, to that share of what is known, in so many steps.
_MANY = 20_000
_LEFT, _ROUNDS = 1e-4, 40
_NEIGHBOURS = (
    *(((row, column), 1 / 12) for row in (-1, 1) for column in (-1, 1)),
    *((place, 1 / 6) for place in ((0, 1), (0, -1), (1, 0), (-1, 0))),
)


def road(trial: Trial) -> np.ndarray:
    """How often the class stays the answer as the most important pixels are painted over.

    The mean over `SHARES` of the pixels. Each pixel painted over is the weighted mean of its
    neighbours, with noise of standard deviation .01, so that what is missing is not seen by its
    shape.

    Source: Rong et al., "A consistent and efficient evaluation strategy for attribution methods",
    2022, section 4, most relevant first.
    """
    order = in_order(trial.maps, trial.images, trial.seed)
    pixels = order[0].size
    noise = draws.normal(
        draws.derive(draws.image_keys(trial.images), trial.seed), trial.images.shape[1:]
    )
    stays = np.zeros(len(trial.images))
    for share in SHARES:
        gone = order < int(share * pixels)
        painted = np.stack([paint_over(*pair) for pair in zip(trial.images, gone, strict=True)])
        painted += np.where(gone[..., None], _NOISE * noise, 0)
        answers = trial.explainer.predict(np.clip(painted, 0, 1).astype(np.float32))
        stays += answers.argmax(-1) == trial.classes
    return stays / len(SHARES)


def paint_over(image: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """Returns an image whose missing pixels are the weighted means of their neighbours.

    Sides count twice as much as corners; all missing pixels are solved for at once, more than
    20,000 of them by conjugate gradients that begin with the image at half its size.

    Args:
        image: float [H, W, C].
        gone: bool [H, W], the missing pixels.
    """
    rows, columns = np.nonzero(gone)
    count = len(rows)
    if not count or count == gone.size:  # nothing to paint, or nothing to paint with
        return image if not count else np.broadcast_to(image.mean((0, 1)), image.shape).copy()
    number = np.full(gone.shape, -1)
    number[rows, columns] = np.arange(count)
    weights = np.zeros(count)
    known = np.zeros((count, image.shape[-1]))
    entries = [(np.arange(count), np.arange(count), np.zeros(count))]
    for (down, right), weight in _NEIGHBOURS:
        row, column = rows + down, columns + right
        inside = (row >= 0) & (row < gone.shape[0]) & (column >= 0) & (column < gone.shape[1])
        here = np.flatnonzero(inside)
        row, column = row[inside], column[inside]
        weights[here] += weight
        there = number[row, column]
        seen = there < 0
        known[here[seen]] += weight * image[row[seen], column[seen]]
        entries.append((here[~seen], there[~seen], np.full((~seen).sum(), -weight)))
    entries[0] = (np.arange(count), np.arange(count), weights)
    i, j, values = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    system = coo_matrix((values, (i, j)), shape=(count, count)).tocsc()
    painted = image.astype(np.float64)
    if count <= _MANY:
        painted[rows, columns] = splu(system).solve(known)
        return painted
    guess = _from_half_the_size(painted, gone)[rows, columns]
    for channel in range(image.shape[-1]):
        painted[rows, columns, channel], _ = cg(
            system, known[:, channel], x0=guess[:, channel], rtol=_LEFT, maxiter=_ROUNDS
        )
    return painted


def _from_half_the_size(image: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """The image painted over at half its size, where it is known in a part of a block."""
    rows, columns = (np.arange(0, side, 2) for side in gone.shape)

    def summed(values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)

    weight = summed((~gone).astype(np.float64))[..., None]
    half = summed(np.where(gone[..., None], 0, image)) / np.maximum(weight, 1)
    found = paint_over(half, weight[..., 0] == 0)
    return found.repeat(2, axis=0).repeat(2, axis=1)[: gone.shape[0], : gone.shape[1]]
