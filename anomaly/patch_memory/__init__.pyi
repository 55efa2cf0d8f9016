"""The public names, listed once. Each loads on first use."""

from .detector import LAYERS as LAYERS
from .detector import PatchMemory as PatchMemory
from .memory import Memory as Memory
from .memory import greedy_coreset as greedy_coreset

__all__ = [
    "LAYERS",
    "Memory",
    "PatchMemory",
    "greedy_coreset",
]
