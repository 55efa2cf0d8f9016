"""The public names, listed once. Each loads on first use."""

from .detector import MemAE as MemAE
from .detector import MemoryReconstruction as MemoryReconstruction
from .memory import MemoryModule as MemoryModule

__all__ = [
    "MemAE",
    "MemoryModule",
    "MemoryReconstruction",
]
