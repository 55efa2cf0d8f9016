"""The public names, listed once. Each loads on first use."""

from .randomized import ABSTAINED as ABSTAINED
from .randomized import Certification as Certification
from .randomized import certify as certify
from .randomized import radius_of as radius_of

__all__ = [
    "ABSTAINED",
    "Certification",
    "certify",
    "radius_of",
]
