"""From a model to a server: export, local server, client. Names load on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from robustcls.serving.extra import require_serving

if TYPE_CHECKING:
    from robustcls.serving.client import Client as Client
    from robustcls.serving.errors import ServingError as ServingError
    from robustcls.serving.exporting import export as export
    from robustcls.serving.exporting import export_run as export_run
    from robustcls.serving.parity import check_export as check_export
    from robustcls.serving.server.run import serve as serve

_HOMES = {
    "Client": "client",
    "ServingError": "errors",
    "check_export": "parity",
    "export": "exporting",
    "export_run": "exporting",
    "serve": "server.run",
}
__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'robustcls.serving' has no attribute {name!r}")
    require_serving()
    return getattr(importlib.import_module(f"robustcls.serving.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
