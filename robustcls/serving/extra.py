"""The packages of the extra `serving`, which classification and training do without."""

from __future__ import annotations

import importlib

from robustcls._validation import InputError

_PACKAGES = (
    "tensorflow_serving.apis",
    "grpc_health.v1",
    "prometheus_client",
    "starlette",
    "uvicorn",
)


def require_serving() -> None:
    """Imports what export, server and client need.

    Raises:
        InputError: one of the packages is not installed.
    """
    for package in _PACKAGES:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise InputError(
                f"serving must have the package {error.name}; it is not installed. "
                "Install with: pip install 'robustcls[serving]'."
            ) from None
