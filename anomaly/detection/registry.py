"""The detectors by the names that the command line and saved detectors use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from robustcls._validation import check_choice

if TYPE_CHECKING:
    from anomaly.detection.detector import OneClassDetector

METHODS = {
    "autoencoder": "AutoEncoder",
    "deep_sad": "DeepSAD",
    "deep_svdd": "DeepSVDD",
    "ebgan": "EBGAN",
    "memae": "MemAE",
    "ognet": "OGNet",
    "one_class_svm": "OneClassSVM",
}
"""The class of each method, which lives in the module `anomaly.METHOD`."""


def detector_class(method: str) -> type[OneClassDetector]:
    """Returns the class of a method.

    Raises:
        InputError: there is no such method.
    """
    check_choice("method", method, METHODS)
    return getattr(importlib.import_module(f"anomaly.{method}"), METHODS[method])
