"""Max-sensitivity: how much maps change with images that hardly do."""

from __future__ import annotations

import numpy as np

from robustcls.explanation.quality.measures.trial import Trial


def max_sensitivity(trial: Trial) -> np.ndarray:
    """The largest change of the map among noisy neighbours of the image, as a share of the map.

    Source: Yeh et al., "On the (in)fidelity and sensitivity of explanations", 2019, definition
    3.1, over the map's own norm; neighbours are drawn within .02 for images in [0, 1]. NaN for an
    empty map.
    """
    own = trial.maps.signed
    changes = [_norms(near.signed - own) for near in trial.of_neighbours]
    size = _norms(own)
    return np.divide(np.max(changes, axis=0), size, np.full(len(size), np.nan), where=size > 0)


def _norms(maps: np.ndarray) -> np.ndarray:
    return np.sqrt((maps.astype(np.float64) ** 2).sum(axis=(1, 2)))
