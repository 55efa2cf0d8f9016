"""The public names, listed once. Each loads on first use."""

from .corruption import CORRUPTIONS as CORRUPTIONS
from .corruption import NOISE_CORRUPTIONS as NOISE_CORRUPTIONS
from .corruption import SEVERITIES as SEVERITIES
from .corruption import corrupt as corrupt

__all__ = [
    "CORRUPTIONS",
    "NOISE_CORRUPTIONS",
    "SEVERITIES",
    "corrupt",
]
