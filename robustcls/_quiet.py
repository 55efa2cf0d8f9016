"""TensorFlow's start without the lines of information that it writes to standard error."""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from types import ModuleType

# Information in absl's form ("I0000 00:00:17 ..."), and what belongs to it.
_INFORMATION = re.compile(
    rb"I\d{4} |\d{4}-\d\d-\d\d \S+: I |WARNING: All log messages before absl::InitializeLog"
    rb"|To enable the following instructions:"
)
# They stand on the stack, too, when a user imports Keras or TensorFlow.
_NOT_THE_CAUSE = ("robustcls._quiet", "robustcls.models._registration")


class _Quiet(importlib.abc.MetaPathFinder):
    """Keeps TensorFlow's import quiet where a module of ours is what imports it."""

    _looking = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "tensorflow" or self._looking or not _on_our_account():
            return None
        if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
            return None
        self._looking = True
        try:
            spec = importlib.util.find_spec("tensorflow")
        finally:
            self._looking = False
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_quietly(module: ModuleType) -> None:
                sys.meta_path.remove(self)
                with without_information():
                    execute(module)

            spec.loader.exec_module = execute_quietly  # type: ignore[method-assign]
        return spec


def quiet_tensorflow() -> None:
    """Keeps TensorFlow quiet when this package is what imports it, now or later.

    A user's own `import tensorflow` is left alone, and so is `TF_CPP_MIN_LOG_LEVEL=0`.
    """
    if "tensorflow" not in sys.modules:
        sys.meta_path.insert(0, _Quiet())


@contextlib.contextmanager
def without_information() -> Iterator[None]:
    """Holds back what is written to descriptor 2 and passes on all but lines of information."""
    try:
        sys.stderr.flush()
        saved = os.dup(2)
    except (AttributeError, OSError, ValueError):  # there is no standard error
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            held.seek(0)
            for line in held:
                if not _INFORMATION.match(line):
                    os.write(2, line)


def _on_our_account() -> bool:
    frame = sys._getframe()
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.partition(".")[0] in ("robustcls", "anomaly") and name not in _NOT_THE_CAUSE:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
