"""MemAE: an autoencoder whose code is made of remembered items."""

from anomaly.memae.detector import MemAE, MemoryReconstruction
from anomaly.memae.memory import MemoryModule

__all__ = ["MemAE", "MemoryModule", "MemoryReconstruction"]
