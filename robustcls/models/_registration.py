"""Keras finds the layers of a saved model only when they are imported: they follow Keras."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

_LAYERS = ("normalization", "pointwise_convolution", "depthwise_convolution", "grouped_convolution")


class _AfterKeras(importlib.abc.MetaPathFinder):
    """Imports this package's layers as soon as somebody has imported Keras."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "keras":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("keras")
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                execute(module)
                _import_layers()

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def register_with_keras() -> None:
    """Registers the layers now where Keras is imported already, else right after it is.

    So `import robustcls` does not wait for TensorFlow, and `keras.models.load_model` knows the
    layers of this package in whatever order the two are imported.
    """
    if "keras" in sys.modules:
        _import_layers()
    else:
        sys.meta_path.insert(0, _AfterKeras())


def _import_layers() -> None:
    for name in _LAYERS:
        importlib.import_module(f"robustcls.models.{name}")
