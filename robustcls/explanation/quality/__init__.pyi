"""The public names, listed once. Each loads on first use."""

from .assessment import SURVIVES as SURVIVES
from .assessment import Quality as Quality
from .assessment import assess as assess
from .assessment import randomization as randomization
from .assessment import stability as stability

__all__ = [
    "SURVIVES",
    "Quality",
    "assess",
    "randomization",
    "stability",
]
