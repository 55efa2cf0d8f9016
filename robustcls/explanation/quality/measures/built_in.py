"""The measures that come with the package, and how to read each."""

from robustcls.explanation.quality.measures import (
    complexity,
    curves,
    fidelity,
    localization,
    randomization,
    remove_and_debias,
    robustness,
)
from robustcls.explanation.quality.measures.registry import QualityMeasure

GAIN = QualityMeasure(curves.gain, True, "insertion minus deletion, less that of random maps")
DELETION = QualityMeasure(
    curves.deletion, False, "area as the most important pixels are taken away"
)
INSERTION = QualityMeasure(curves.insertion, True, "area as the most important pixels come back")
MU_FIDELITY = QualityMeasure(
    fidelity.mu_fidelity, True, "rank correlation of a map's sums with what their loss costs"
)
INFIDELITY = QualityMeasure(
    fidelity.infidelity, False, "share of what the logit loses that the map does not foretell"
)
ROAD = QualityMeasure(
    remove_and_debias.road, False, "how often the class stays when what is marked is painted over"
)
MAX_SENSITIVITY = QualityMeasure(
    robustness.max_sensitivity, False, "largest change of the map under noise of .02, as a share"
)
SPARSENESS = QualityMeasure(complexity.sparseness, True, "Gini index of the pixels")
COMPLEXITY = QualityMeasure(complexity.complexity, False, "entropy of the pixels")
RANDOMIZATION = QualityMeasure(
    randomization.randomization, False, "rank correlation with the maps of random weights"
)
EFFICIENT_RANDOMIZATION = QualityMeasure(
    randomization.efficient_randomization, True, "rise in complexity under random weights"
)
POINTING_GAME = QualityMeasure(
    localization.pointing_game, True, "the most important pixel is in the mask", needs_masks=True
)
MASS_IN_MASK = QualityMeasure(
    localization.mass_in_mask, True, "share of the map in the mask", needs_masks=True
)
