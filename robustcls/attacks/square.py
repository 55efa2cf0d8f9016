"""The square attack: random search on the model's scores alone."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from robustcls._settings import Flag, PositiveInt
from robustcls.attacks import draws, sparse
from robustcls.attacks.loop import LoopedAttack, Step
from robustcls.attacks.margins import margins
from robustcls.attacks.task import Batch, State
from robustcls.classifiers.classifier import Classifier

FIRST_SHARE = 0.8
# Of the radius in norm "1", which leaves room for rounding.
NEARLY = 1 - 1e-6
# After how many of 10,000 queries the share of changed pixels is halved.
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


@dataclass(frozen=True, kw_only=True)
class Square(LoopedAttack):
    """Changes one random square of the image at a time and keeps what lowers the margin.

    Takes no gradients: the model may be any function from images to scores. The squares shrink
    on the published schedule for 10,000 queries, rescaled to the number of queries or not.

    Source: Andriushchenko et al., "Square Attack: a query-efficient black-box adversarial attack
    via random search", 2020, algorithms 1 to 3; in the L1 ball Croce and Hein, "Mind the box:
    l1-APGD for sparse adversarial attacks on image classifiers", 2021, appendix B.

    Args:
        epsilon: radius of the ball; above 1 only for norms "2" and "1" (float in (0, 1], default
            8/255).
        norm: of the ball ("inf", "2" or "1", default "inf").
        queries: how often the model is asked about each image until it falls (int >= 1, default
            5000).
        rescale: whether the squares have shrunk to the last size when the queries end, or shrink
            after as many queries as if there were 10,000, as within AutoAttack (bool, default
            True).
        seed: seed of the squares (int >= 0, default 0).
    """

    queries: PositiveInt = 5000
    rescale: Flag = True

    known_norms = ("inf", "2", "1")

    @property
    def step_count(self) -> int:
        return self.queries

    @property
    def moves_last(self) -> bool:
        return False

    def start(self, batch: Batch) -> State:
        count, *shape = batch.images.shape
        if self.norm == "inf":
            height, width, channels = shape
            stripes = draws.signs(batch.keys, (1, width, channels))
            offsets = np.repeat(self.epsilon * stripes, height, axis=1)
        else:
            offsets = _tiles(batch.keys, shape, self.norm)
        current = self._inside(batch.images, offsets)
        return {
            "current": current,
            "best": current,
            "best_margin": np.full(count, -np.inf, np.float32),
        }

    def make_step(self, classifier: Classifier) -> Step:
        def step(batch: Batch, state: State) -> tuple[np.ndarray, np.ndarray, State]:
            points = state["current"]
            logits = classifier.predict(points)
            margin = margins(logits, batch.labels)
            better = margin > state["best_margin"]
            best = np.where(better[:, None, None, None], points, state["best"])
            best_margin = np.where(better, margin, state["best_margin"])
            current = self._propose(batch, best)
            return points, logits, {"current": current, "best": best, "best_margin": best_margin}

        return step

    def _propose(self, batch: Batch, best: np.ndarray) -> np.ndarray:
        """Returns the best points so far, each with one square changed."""
        keys = draws.derive(batch.keys, batch.step + 1)
        sides = self._sides(batch.step, *best.shape[1:3])
        change = self._recolour if self.norm == "inf" else self._move_mass
        proposed = np.empty_like(best)
        for side in np.unique(sides):
            rows = np.flatnonzero(sides == side)
            proposed[rows] = change(keys[rows], batch.images[rows], best[rows], int(side))
        return proposed

    def _sides(self, step: np.ndarray, height: int, width: int) -> np.ndarray:
        """Returns the side of the square that follows each image's queries so far, int [n]."""
        progress = step * 10_000 // self.queries if self.rescale else step
        halvings = (progress[:, None] > np.array(HALVINGS)).sum(1)
        sides = np.rint(np.sqrt(FIRST_SHARE * 0.5**halvings * height * width)).astype(int)
        if self.norm != "inf":
            sides = np.maximum(sides, 3) // 2 * 2 + 1
        return np.clip(sides, 1, min(height, width))

    def _recolour(
        self, keys: np.ndarray, images: np.ndarray, best: np.ndarray, side: int
    ) -> np.ndarray:
        """Sets a square of each channel to one end of its range."""
        changed = best.copy()
        square = _square(draws.derive(keys, 0), best.shape, side)
        signs = draws.signs(draws.derive(keys, 1), (1, 1, best.shape[-1]))
        changed[square] = np.clip(images[square] + np.float32(self.epsilon) * signs, 0, 1)
        return changed

    def _move_mass(
        self, keys: np.ndarray, images: np.ndarray, best: np.ndarray, side: int
    ) -> np.ndarray:
        """Takes the change in one square away and adds a bump of as much to another."""
        offsets = best - images
        channels, norm = best.shape[-1], self.norm
        target = _square(draws.derive(keys, 0), best.shape, side)
        source = _square(draws.derive(keys, 1), best.shape, side)
        affected = np.zeros((*best.shape[:3], 1), bool)
        affected[target] = affected[source] = True
        within = _mass(offsets * affected, (1, 2), norm)
        spare = np.maximum(self.epsilon ** int(norm) - _mass(offsets, (1, 2, 3), norm), 0)
        size = np.sqrt(spare / channels + within) if norm == "2" else spare + channels * within

        signs = draws.signs(draws.derive(keys, 2), (1, 1, channels))
        bump = _bumps(draws.derive(keys, 3), side, norm)[..., None] * signs
        bump = bump + _unit(offsets[target], (1, 2), norm)
        offsets[source] = 0
        offsets[target] = size * _unit(bump, (1, 2), norm)
        return self._inside(images, offsets)

    def _inside(self, images: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Returns the images with the offsets, in the ball and in [0, 1]."""
        if self.norm == "1":
            radius = np.float32(self.epsilon * NEARLY)
            return sparse.project(images + offsets, images, radius).numpy()
        if self.norm == "2":
            offsets = np.float32(self.epsilon) * _unit(offsets)
        return np.clip(images + offsets, 0, 1).astype(np.float32)


def _square(keys: np.ndarray, shape: tuple[int, ...], side: int) -> tuple[np.ndarray, ...]:
    """Returns the index of a random square of each image of an array of `shape`."""
    count, height, width = shape[:3]
    tops = draws.integers(draws.derive(keys, 0), height - side + 1)
    lefts = draws.integers(draws.derive(keys, 1), width - side + 1)
    along = np.arange(side)
    rows, columns = tops[:, None] + along, lefts[:, None] + along
    return np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]


def _tiles(keys: np.ndarray, shape: list[int], norm: str) -> np.ndarray:
    """Returns images covered with bumps of random sign, about five along each side."""
    height, width, channels = shape
    side = max(min(height, width) // 5, 1)
    down, across = height // side, width // side
    tiles = np.zeros((len(keys), height, width, channels), np.float32)
    top, left = (height - down * side) // 2, (width - across * side) // 2
    for place in range(down * across):
        own = draws.derive(keys, place)
        row, column = top + place // across * side, left + place % across * side
        bump = _bumps(draws.derive(own, 1), side, norm)[..., None]
        signs = draws.signs(draws.derive(own, 2), (1, 1, channels))
        tiles[:, row : row + side, column : column + side] = bump * signs
    return tiles


def _bumps(keys: np.ndarray, side: int, norm: str) -> np.ndarray:
    """Returns the published pattern, float32 [n, side, side], turned at random."""
    pattern = _pattern(side, norm)
    turned = draws.uniform(keys, (1, 1)) < 0.5
    return np.where(turned, pattern.T, pattern)


@functools.cache
def _pattern(side: int, norm: str) -> np.ndarray:
    """A positive hill over a negative one, each of norm 1, together of norm 1."""
    upper, lower = _hill(side // 2, side, norm), _hill(side - side // 2, side, norm)
    return _unit(np.concatenate([upper, -lower])[None], (1, 2), norm)[0]


def _hill(height: int, width: int, norm: str) -> np.ndarray:
    """Concentric rectangles whose m-th adds 1 / m**2, or 1 / m**4 for norm "1", of norm 1."""
    down = np.abs(np.arange(height) - height // 2)
    across = np.abs(np.arange(width) - width // 2)
    heights = np.arange(1.0, max(height, width) // 2 + 2) ** (-2.0 if norm == "2" else -4.0)
    # A pixel lies in all rectangles from the first that holds it outwards.
    sums = np.cumsum(heights[::-1])[::-1]
    hill = sums[np.maximum.outer(down, across)][None]
    return _unit(hill, (1, 2), norm)[0].astype(np.float32)


def _mass(values: np.ndarray, axes: tuple[int, ...], norm: str) -> np.ndarray:
    """The sum of squares, or of sizes for norm "1"."""
    sizes = np.square(values) if norm == "2" else np.abs(values)
    return sizes.sum(axes, keepdims=True)


def _unit(values: np.ndarray, axes: tuple[int, ...] = (1, 2, 3), norm: str = "2") -> np.ndarray:
    mass = _mass(values, axes, norm)
    return values / ((np.sqrt(mass) if norm == "2" else mass) + 1e-12)
