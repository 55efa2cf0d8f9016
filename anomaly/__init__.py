"""Detectors of images that are not like the normal ones. Names load on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anomaly.autoencoder import AutoEncoder as AutoEncoder
    from anomaly.deep_sad import DeepSAD as DeepSAD
    from anomaly.deep_svdd import DeepSVDD as DeepSVDD
    from anomaly.detector import OneClassDetector as OneClassDetector
    from anomaly.ebgan import EBGAN as EBGAN
    from anomaly.localization import Box as Box
    from anomaly.localization import draw_boxes as draw_boxes
    from anomaly.memae import MemAE as MemAE
    from anomaly.memory import MemoryModule as MemoryModule
    from anomaly.ognet import OGNet as OGNet
    from anomaly.one_class_svm import OneClassSVM as OneClassSVM
    from anomaly.protocol import OneClassSplits as OneClassSplits
    from anomaly.protocol import evaluate_scores as evaluate_scores
    from anomaly.protocol import known_anomalies as known_anomalies
    from anomaly.protocol import one_class_splits as one_class_splits
    from anomaly.reconstruction import ReconstructionDetector as ReconstructionDetector
    from anomaly.thresholds import conformal_threshold as conformal_threshold

_HOMES = {
    "AutoEncoder": "autoencoder",
    "Box": "localization",
    "DeepSAD": "deep_sad",
    "DeepSVDD": "deep_svdd",
    "EBGAN": "ebgan",
    "MemAE": "memae",
    "MemoryModule": "memory",
    "OGNet": "ognet",
    "OneClassDetector": "detector",
    "OneClassSVM": "one_class_svm",
    "OneClassSplits": "protocol",
    "ReconstructionDetector": "reconstruction",
    "conformal_threshold": "thresholds",
    "draw_boxes": "localization",
    "evaluate_scores": "protocol",
    "known_anomalies": "protocol",
    "one_class_splits": "protocol",
}
__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'anomaly' has no attribute {name!r}")
    return getattr(importlib.import_module(f"anomaly.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
