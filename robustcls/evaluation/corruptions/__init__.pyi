"""The public names, listed once. Each loads on first use."""

from .corruption import NOISE_CORRUPTIONS as NOISE_CORRUPTIONS
from .corruption import SEVERITIES as SEVERITIES
from .corruption import corrupt as corrupt
from .corruption import register_corruption as register_corruption
from .registry import CORRUPTIONS as CORRUPTIONS

__all__ = [
    "CORRUPTIONS",
    "NOISE_CORRUPTIONS",
    "SEVERITIES",
    "corrupt",
    "register_corruption",
]
