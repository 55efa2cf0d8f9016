"""The public names, listed once. Each loads on first use."""

from .corruption import corrupt as corrupt
from .corruption import register_corruption as register_corruption
from .registry import CORRUPTIONS as CORRUPTIONS
from .severities import NOISE_CORRUPTIONS as NOISE_CORRUPTIONS
from .severities import SEVERITIES as SEVERITIES

__all__ = [
    "CORRUPTIONS",
    "NOISE_CORRUPTIONS",
    "SEVERITIES",
    "corrupt",
    "register_corruption",
]
