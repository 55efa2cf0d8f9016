"""The measures of maps by the names that the command line uses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from robustcls._registry import Registry

_HERE = "robustcls.explanation.quality.measures"


@dataclass(frozen=True)
class QualityMeasure:
    """A measure, and how to read it.

    Attributes:
        function: a `Trial` to a figure of each image, float [N], NaN where it cannot be told.
        higher_is_better: else lower is.
        words: what the figure is, in a few words.
        needs_masks: it asks where what counts is known to be.
    """

    function: Callable[[Any], Any]
    higher_is_better: bool
    words: str
    needs_masks: bool = False


MEASURES: Registry[QualityMeasure] = Registry(
    "measure",
    {
        name: f"{_HERE}.built_in:{name.upper()}"
        for name in (
            "gain",
            "deletion",
            "insertion",
            "mu_fidelity",
            "infidelity",
            "road",
            "max_sensitivity",
            "sparseness",
            "complexity",
            "randomization",
            "efficient_randomization",
            "pointing_game",
            "mass_in_mask",
        )
    },
)
