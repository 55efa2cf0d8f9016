"""How far scores of known and of unfamiliar images lie apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from robustcls.evaluation.intervals import clopper_pearson

#: Share of the known images that FPR95 lets pass.
PASSING = 0.95


@dataclass(frozen=True)
class Interval:
    """A share in [0, 1] and its 95 % interval.

    Attributes:
        value: the share.
        low, high: the ends of the interval.
    """

    value: float
    low: float
    high: float

    @property
    def words(self) -> str:
        """In %, for tables."""
        return f"{100 * self.value:.1f} ({100 * self.low:.1f} – {100 * self.high:.1f})"


def share(hits: int, count: int) -> Interval:
    """Returns `hits` of `count` with the Clopper-Pearson interval."""
    return Interval(hits / count, *clopper_pearson(hits, count))


def auroc(known: np.ndarray, others: np.ndarray) -> Interval:
    """Returns the chance that a known image scores higher than another, ties counting half.

    The interval is that of a share of min(n, m) images, which is never too narrow: the variance of
    the AUROC A is at most A (1 - A) / min(n, m), and at A = 1 it still has a width.

    Args:
        known: float [n], scores of known images; higher is more familiar.
        others: float [m], of unfamiliar ones.

    Source: Birnbaum and Klose, "Bounds for the Variance of the Mann-Whitney Statistic", 1957.
    """
    ranks = rankdata(np.concatenate([known, others]))[: len(known)]
    above = ranks.sum() - len(known) * (len(known) + 1) / 2
    value = float(above / (len(known) * len(others)))
    count = min(len(known), len(others))
    return Interval(value, *clopper_pearson(value * count, count))


def false_positives(known: np.ndarray, others: np.ndarray) -> Interval:
    """Returns the share of unfamiliar images that pass where 95 % of the known ones do.

    Args:
        known: float [n], scores of known images; higher is more familiar.
        others: float [m], of unfamiliar ones.
    """
    # The largest threshold that at least that share reaches.
    lowest = np.sort(known)[len(known) - int(np.ceil(PASSING * len(known) - 1e-9))]
    return share(int((others >= lowest).sum()), len(others))
