"""Deep SVDD and Deep SAD: features near a centre."""

from anomaly.deep_svdd.deep_sad import DeepSAD
from anomaly.deep_svdd.detector import DeepSVDD

__all__ = ["DeepSAD", "DeepSVDD"]
