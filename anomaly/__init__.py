"""Detectors of images that are not like the normal ones. Names load on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anomaly.autoencoder import AutoEncoder as AutoEncoder
    from anomaly.detector import OneClassDetector as OneClassDetector
    from anomaly.localization import Box as Box
    from anomaly.localization import draw_boxes as draw_boxes
    from anomaly.protocol import OneClassSplits as OneClassSplits
    from anomaly.protocol import evaluate_scores as evaluate_scores
    from anomaly.protocol import one_class_splits as one_class_splits
    from anomaly.thresholds import conformal_threshold as conformal_threshold

_HOMES = {
    "AutoEncoder": "autoencoder",
    "Box": "localization",
    "OneClassDetector": "detector",
    "OneClassSplits": "protocol",
    "conformal_threshold": "thresholds",
    "draw_boxes": "localization",
    "evaluate_scores": "protocol",
    "one_class_splits": "protocol",
}
__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'anomaly' has no attribute {name!r}")
    return getattr(importlib.import_module(f"anomaly.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
