"""Whether a map deserves belief."""

from robustcls.explanation.quality.assessment import (
    SURVIVES,
    Quality,
    assess,
    randomization,
    stability,
)

__all__ = ["SURVIVES", "Quality", "assess", "randomization", "stability"]
