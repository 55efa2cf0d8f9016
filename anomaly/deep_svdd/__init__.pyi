"""The public names, listed once. Each loads on first use."""

from .deep_sad import DeepSAD as DeepSAD
from .detector import DeepSVDD as DeepSVDD

__all__ = [
    "DeepSAD",
    "DeepSVDD",
]
