"""How sure the order of methods is, and whether measures agree on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from robustcls.evaluation.intervals import Estimate
from robustcls.explanation.quality.measures.registry import MEASURES

_RESAMPLES = 500


@dataclass(frozen=True)
class Ranking:
    """The order of methods over the bootstrap of the images.

    Attributes:
        first: by measure and method, in how much of the resamples the method is the best.
        concordance: Kendall's W of the measures' orders, 0 for none and 1 for one order, with its
            95 % interval; None for fewer than two methods or measures.
    """

    first: dict[str, dict[str, float]]
    concordance: Estimate | None

    @property
    def words(self) -> str:
        """One or two sentences."""
        best = []
        for measure, shares in self.first.items():
            if shares:
                method = max(shares, key=lambda name: shares[name])
                best.append(f"{measure}: {method} ({100 * shares[method]:.0f} %)")
        found = self.concordance
        if found is None:
            return "One method or one measure has no order."
        return (
            "Measures ask different things, and order the methods differently: Kendall's W "
            f"{found.mean:.2f} ({found.low:.2f} to {found.high:.2f}), where 1 is one order and 0 "
            f"none. First, and in how much of the resamples: {', '.join(best)}."
        )


def ranking(figures: Mapping[str, Mapping[str, np.ndarray]], seed: int = 0) -> Ranking:
    """Returns how sure the order of methods is.

    Args:
        figures: of each image, float [N], by method and measure; what is NaN is left out.
        seed: of the resamples (int, default 0).
    """
    methods = list(figures)
    measures = list(next(iter(figures.values())))
    values = np.array([[figures[method][name] for method in methods] for name in measures])
    signs = np.array([1 if MEASURES[name].higher_is_better else -1 for name in measures])
    told = np.isfinite(values)
    count = values.shape[-1]
    drawn = np.random.default_rng(seed).integers(0, count, (_RESAMPLES, count))
    # How often each image is drawn turns every resample into one product.
    times = np.stack([np.bincount(row, minlength=count) for row in drawn]).astype(np.float64)
    times = np.concatenate([np.ones((1, count)), times])
    weights = told.astype(np.float64) @ times.T
    means = np.divide(
        np.where(told, values, 0) @ times.T,
        weights,
        np.full(weights.shape, np.nan),
        where=weights > 0,
    )
    means *= signs[:, None, None]  # [measures, methods, resamples]; the first is of the images
    whole = np.isfinite(means).all(axis=(1, 2)) & (len(methods) > 1)
    first: dict[str, dict[str, float]] = {name: {} for name in measures}
    for at in np.flatnonzero(whole):
        best = np.bincount(means[at, :, 1:].argmax(axis=0), minlength=len(methods))
        first[measures[at]] = dict(zip(methods, (best / _RESAMPLES).tolist(), strict=True))
    if whole.sum() < 2:
        return Ranking(first, None)
    ranks = rankdata(means[whole], axis=1)
    agreed = _kendall(ranks)
    low, high = np.quantile(agreed[1:], (0.025, 0.975))
    return Ranking(first, Estimate(float(agreed[0]), float(low), float(high), count))


def _kendall(ranks: np.ndarray) -> np.ndarray:
    """Kendall's W, [resamples], of ranks [measures, methods, resamples]; ties as they come."""
    measures, methods = ranks.shape[:2]
    sums = ranks.sum(axis=0)
    spread = ((sums - sums.mean(axis=0)) ** 2).sum(axis=0)
    return 12 * spread / (measures**2 * (methods**3 - methods))
