"""Deletion and insertion, and their gain over random maps."""

from __future__ import annotations

import numpy as np

from robustcls.explanation.quality.faithfulness import area
from robustcls.explanation.quality.measures.trial import Trial


def deletion(trial: Trial) -> np.ndarray:
    """Area under the probability of the class as the most important pixels are taken away.

    Source: Petsiuk et al., "RISE", 2018, section 4.1; see `faithfulness`.
    """
    return area(trial.curves.deletion)


def insertion(trial: Trial) -> np.ndarray:
    """Area under the probability of the class as the most important pixels are brought back.

    Source: as `deletion`.
    """
    return area(trial.curves.insertion)


def gain(trial: Trial) -> np.ndarray:
    """Insertion minus deletion, less the same of random maps of this grain."""
    random = trial.random_curves
    chance = area(random.insertion) - area(random.deletion)
    return insertion(trial) - deletion(trial) - chance
