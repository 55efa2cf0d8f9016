"""Parameter randomization: whether maps change with what the network has learnt."""

from __future__ import annotations

import numpy as np

from robustcls.explanation.quality.measures.trial import Trial
from robustcls.explanation.quality.similarity import spearman

_BINS = 100


def randomization(trial: Trial) -> np.ndarray:
    """Rank correlation with the maps of the network with its weights shuffled.

    Source: Adebayo et al., "Sanity checks for saliency maps", 2018. NaN where there is too little
    to compare (see `spearman`), or the network answers as before.
    """
    other = trial.under_random_weights
    if other is None:
        return np.full(len(trial.images), np.nan)
    return spearman(trial.maps.relevance, other.relevance)


def efficient_randomization(trial: Trial) -> np.ndarray:
    """How much more complex maps become when the weights are shuffled, as a share.

    Complexity is the entropy of a histogram of 100 bins. Above 0 the network's order is seen in
    its maps; at 0 they are as they would be without.

    Source: Hedström et al., "A fresh look at sanity checks for saliency maps", 2024, section 4.2
    (eMPRT). NaN where the map has one value, or the network answers as before.
    """
    other = trial.under_random_weights
    if other is None:
        return np.full(len(trial.images), np.nan)
    before, after = (histogram_entropy(maps.signed) for maps in (trial.maps, other))
    return np.divide(after - before, before, np.full(len(before), np.nan), where=before > 0)


def histogram_entropy(maps: np.ndarray) -> np.ndarray:
    """Returns the entropy of the histogram of each map, in nats, float64 [N].

    Args:
        maps: float [N, H, W].
    """
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    counts = np.stack([np.histogram(values, _BINS)[0] for values in flat])
    shares = counts / flat.shape[1]
    return -(shares * np.log(np.where(shares > 0, shares, 1))).sum(axis=1)
