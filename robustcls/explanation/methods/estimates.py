"""A mean over images and how sure it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A mean over images and its 95 % interval, by the bootstrap over the images.

    Attributes:
        mean, low, high: the mean and the ends of the interval.
        count: the number of images.
    """

    mean: float
    low: float
    high: float
    count: int


def estimate(values: np.ndarray, seed: int = 0) -> Estimate:
    """Returns the mean of a figure of each image, float [N], with its bootstrap interval."""
    generator = np.random.default_rng(seed)
    drawn = generator.integers(0, len(values), (_RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), (0.025, 0.975))
    return Estimate(float(values.mean()), float(low), float(high), len(values))
