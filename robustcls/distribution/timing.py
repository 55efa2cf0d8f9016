"""How long the workers' steps take, what the exchange costs, and who keeps the others waiting."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from robustcls.distribution.collectives import is_chief, worker_index
from robustcls.distribution.replicas import worker_count
from robustcls.distribution.telling import Told
from robustcls.files import write_text

# A worker is slow whose own part of a step takes that many times the others', and as many seconds
# more.
_TIMES, _SECONDS = 1.5, 0.01
_COLUMNS = ("epoch", "worker", "steps", "step_s", "own_s", "exchange_s", "megabytes", "mb_per_s")


class WorkerTimes(keras.callbacks.Callback):
    """Writes each epoch's times of each worker to a table, and names a worker that is slow.

    Workers take a step together, so all of their steps take as long as the slowest one's. What
    differs is how long each waits in the exchanges of gradients and batch-norm moments; the rest
    of a step, input and callbacks included, is its own. The worker that waits least has the
    exchange alone, so its wait is what an exchange takes. All are medians over the epoch, without
    its first step. Where XLA compiles the step, nothing is timed.

    Args:
        path: of the table, CSV, which the chief writes; None writes none.
        verbose: print a line when a worker is slow (bool, default True).
    """

    def __init__(self, path: Path | str | None, verbose: bool = True) -> None:
        super().__init__()
        self.path = None if path is None else Path(path)
        self.verbose = verbose
        self._rows = _read(self.path)
        self._steps: list[Told] = []

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._steps = []

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        told = getattr(self.model, "told", None)
        if told is not None:
            self._steps.append(told)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        steps = self._steps[1:]
        if worker_count() == 1 or not is_chief() or not any(told.waits.any() for told in steps):
            return
        whole = np.array([told.seconds for told in steps])
        waits = np.array([told.waits for told in steps])
        own = np.median(np.maximum(0, whole[:, None] - waits), 0)
        exchange = float(np.median(waits.min(1)))
        megabytes = steps[-1].exchanged / 1e6
        self._rows = [row for row in self._rows if int(row[0]) != epoch + 1]
        for worker, seconds in enumerate(own):
            figures = (np.median(whole), seconds, exchange, megabytes, megabytes / exchange)
            numbers = (epoch + 1, worker, len(steps))
            self._rows.append([*map(str, numbers), *(f"{figure:.6g}" for figure in figures)])
        if self.path is not None:
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows([_COLUMNS, *self._rows])
            write_text(self.path, text.getvalue())
        slow = slow_workers(own)
        if slow and self.verbose:
            usual = statistics.median_low(own)
            named = ", ".join(f"worker {n} ({own[n]:.3f} s)" for n in slow)
            print(
                f"Epoch {epoch + 1}: slower than the others: {named}; "
                f"{usual:.3f} s of a step is usual.",
                flush=True,
            )


def slow_workers(seconds: Sequence[float] | np.ndarray) -> list[int]:
    """Returns the numbers of the workers whose own part of a step is well above the median.

    Of an even number the lower median counts, so that one of two can be slow.

    Args:
        seconds: of each worker.
    """
    usual = statistics.median_low(seconds)
    least = max(_TIMES * usual, usual + _SECONDS)
    return [worker for worker, own in enumerate(seconds) if own > least]


def _read(path: Path | None) -> list[list[str]]:
    if path is None or worker_index() or not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    return [row for row in rows if len(row) == len(_COLUMNS)]
