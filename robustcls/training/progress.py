"""What a training tells: lines where no terminal can show bars, no warning of retracing."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras


class EpochLines(keras.callbacks.Callback):
    """Prints one line an epoch: its number, its figures and its seconds."""

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        figures = ", ".join(f"{name} {float(value):.4g}" for name, value in (logs or {}).items())
        seconds = time.perf_counter() - self.start
        print(f"Epoch {epoch + 1}/{self.params['epochs']}: {figures}, {seconds:.0f} s", flush=True)


def shown(verbose: int) -> tuple[int, list[keras.callbacks.Callback]]:
    """Returns Keras' own `verbose` and the callbacks for 0 nothing, 1 bars or 2 lines."""
    return (1, []) if verbose == 1 else (0, [EpochLines()] if verbose else [])


@contextmanager
def quiet_tracing() -> Iterator[None]:
    """Silences TensorFlow's warning of retracing.

    It counts calls by line of code, and so takes the one trace of each model in a row for one
    function that is traced again and again.
    """
    logger = logging.getLogger("tensorflow")
    # One of its own for each call: `fit` calls `evaluate`.
    silent = _NoRetracing()
    logger.addFilter(silent)
    try:
        yield
    finally:
        logger.removeFilter(silent)


class _NoRetracing(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return "triggered tf.function retracing" not in record.getMessage()
