"""Sparseness and complexity: how few pixels a map is about, whether it is right or not."""

from __future__ import annotations

import numpy as np

from robustcls.explanation.quality.measures.trial import Trial


def sparseness(trial: Trial) -> np.ndarray:
    """Gini index of the sizes of pixels: 0 all count alike, near 1 one counts alone.

    Source: Chalasani et al., "Concise explanations of neural networks using adversarial training",
    2020, section 3. NaN for an empty map.
    """
    sizes = np.sort(_sizes(trial), axis=1)
    count = sizes.shape[1]
    ranks = 2 * np.arange(1, count + 1) - count - 1
    return _over(sizes @ ranks, count * sizes.sum(axis=1))


def complexity(trial: Trial) -> np.ndarray:
    """Entropy of the shares of pixels, in nats: small where few count.

    Source: Bhatt et al., "Evaluating and aggregating feature-based model explanations", 2020,
    definition 4. NaN for an empty map.
    """
    sizes = _sizes(trial)
    shares = _over(sizes, sizes.sum(axis=1, keepdims=True))
    return -(shares * np.log(np.where(shares > 0, shares, 1))).sum(axis=1)


def _sizes(trial: Trial) -> np.ndarray:
    """float64 [N, pixels] >= 0, of either sign."""
    signed = trial.maps.signed
    return np.abs(signed).reshape(len(signed), -1).astype(np.float64)


def _over(values: np.ndarray, wholes: np.ndarray) -> np.ndarray:
    return np.divide(values, wholes, np.full(values.shape, np.nan), where=wholes > 0)
