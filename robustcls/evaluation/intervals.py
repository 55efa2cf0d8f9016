"""Figures and how sure they are: 95 % intervals of accuracies and of means over images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

_RESAMPLES = 2000


@dataclass(frozen=True)
class Measurement:
    """An accuracy and how sure it is.

    Attributes:
        name: what the images went through: `clean`, a noise, or an attack.
        accuracy: the share of images classified right, in [0, 1].
        low: lower end of the 95 % Clopper-Pearson interval of `accuracy`.
        high: its upper end.
        count: the number of images.
    """

    name: str
    accuracy: float
    low: float
    high: float
    count: int


def measurement(name: str, right: int, count: int) -> Measurement:
    """Returns `right` of `count` as an accuracy with its 95 % Clopper-Pearson interval."""
    return Measurement(name, right / count, *clopper_pearson(right, count), count)


def clopper_pearson(hits: float, count: int, alpha: float = 0.05) -> tuple[float, float]:
    """Returns the exact two-sided interval of a probability, from `hits` in `count` trials.

    The probability is below it with a chance of at most `alpha` / 2, and above it with as much.

    Source: Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the
    case of the binomial", 1934.
    """
    high = beta.ppf(1 - alpha / 2, hits + 1, count - hits) if hits < count else 1.0
    return lower_bound(hits, count, alpha / 2), float(high)


def lower_bound(hits: float, count: int, alpha: float) -> float:
    """Returns what the probability is below with a chance of at most `alpha`."""
    return float(beta.ppf(alpha, hits, count - hits + 1)) if hits else 0.0


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
