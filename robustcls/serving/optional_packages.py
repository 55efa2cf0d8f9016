"""Packages that only some commands need, each named by the extra that installs it."""

from __future__ import annotations

import importlib

from robustcls._validation import InputError

_PACKAGES = {
    "serving": (
        "tensorflow_serving.apis",
        "grpc_health.v1",
        "prometheus_client",
        "starlette",
        "uvicorn",
    ),
    "int8": ("ai_edge_litert.interpreter",),
    "openvino": ("openvino",),
    "onnx": ("tf2onnx", "onnx", "onnxruntime"),
}


def require_serving() -> None:
    """Imports what export, server and client need.

    Raises:
        InputError: one of the packages is not installed.
    """
    require("serving", "serving")


def require(extra: str, purpose: str) -> None:
    """Imports the packages of an extra.

    Raises:
        InputError: one of them is not installed.
    """
    for package in _PACKAGES[extra]:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise InputError(
                f"{purpose} must have the package {error.name}; it is not installed. "
                f"Install with: pip install '.[{extra}]' in the checkout of robustcls."
            ) from None
