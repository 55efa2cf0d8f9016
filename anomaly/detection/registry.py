"""The detectors by the names that the command line and saved detectors use."""

from __future__ import annotations

from typing import Any

from robustcls._registry import Registry
from robustcls._validation import InputError

METHODS: Registry[Any] = Registry(
    "method",
    {
        "autoencoder": "anomaly.autoencoder:AutoEncoder",
        "deep_sad": "anomaly.deep_svdd.deep_sad:DeepSAD",
        "deep_svdd": "anomaly.deep_svdd.detector:DeepSVDD",
        "ebgan": "anomaly.ebgan.detector:EBGAN",
        "memae": "anomaly.memae.detector:MemAE",
        "ognet": "anomaly.ognet.detector:OGNet",
        "one_class_svm": "anomaly.one_class_svm:OneClassSVM",
        "patch_memory": "anomaly.patch_memory.detector:PatchMemory",
    },
)
"""The class of each method. Those of the package are imported when they are first asked for; a
subclass of `OneClassDetector` that has a `method` adds itself."""


def detector_class(method: str) -> Any:
    """Returns the class of a method.

    Raises:
        InputError: there is no such method.
    """
    return METHODS.find(method)


def check_own_name(kind: Any) -> None:
    """Raises `InputError` for a subclass that goes by the `method` of its base."""
    found = METHODS.find(kind.method)
    if (kind.__module__, kind.__qualname__) != (found.__module__, found.__qualname__):
        raise InputError(
            f"{kind.__name__} must have a method of its own to be saved; {kind.method!r} is that "
            f"of {found.__name__}."
        )
