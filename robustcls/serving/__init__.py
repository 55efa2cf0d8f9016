"""From a model to a server: export, local server, client. Names load on first use."""

from typing import Any

import lazy_loader

from robustcls.serving.optional_packages import require_serving

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name in __all__:
        require_serving()
    return _load(name)
