"""A checkpoint after every epoch, from which a killed training goes on to the same result."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from robustcls._stopping import Stopped, let_wait
from robustcls._validation import InputError
from robustcls.distribution.collectives import from_chief, gather_texts, is_chief, on_chief
from robustcls.distribution.midway import Midway, metric_values
from robustcls.distribution.telling import told_together
from robustcls.files import read_arrays, write_arrays, write_text
from robustcls.training.trainer import base_model_of
from robustcls.training.unfreezing import PlateauUnfreezing


class EpochCheckpoint(keras.callbacks.Callback):
    """Writes all that decides the next epochs to `checkpoints/epoch-NNN.npz`.

    That is every variable of the model (weights, batch-norm statistics, seeds) and of the
    optimizer (momentum, iterations), the history so far, and the state of `unfreezing`. A model
    that trains with several optimizers has them, built, in its attribute `optimizers`. The last
    two checkpoints are kept. `history.csv` is written anew beside the folder. Of several workers
    the chief alone writes and reads, and tells the others. A damaged checkpoint is put aside, and
    the one before is taken.

    A signal that ends the process (SIGTERM, of the command line) leaves a checkpoint in mid-epoch,
    `epoch-NNN-batch-NNNNNN.npz`, after the batch at hand; of several workers one that was told is
    enough. From there the training goes on with the next batch: those before are read, not
    trained on.

    Args:
        folder: the model's folder in the run.
        unfreezing: the callback whose state to keep, if there is one.
        beside: more variables to keep, beside the model's and the optimizer's.
        identity: of the training, all that decides its result; "" takes the checkpoints of any
            (str, default "").

    Attributes:
        keeping: returns weights of the base model to keep beside; none at first.
        kept: those of the checkpoint that was restored, or None.

    Raises:
        Stopped: the process was told to end, and the checkpoint is written.
    """

    def __init__(
        self,
        folder: Path | str,
        unfreezing: PlateauUnfreezing | None = None,
        beside: Sequence[Any] = (),
        identity: str = "",
    ) -> None:
        super().__init__()
        self.identity = identity
        self.beside = list(beside)
        self.folder = Path(folder)
        self.unfreezing = unfreezing
        self.history: list[dict[str, float]] = []
        self.keeping: Callable[[], Sequence[np.ndarray]] = tuple
        self.kept: list[np.ndarray] | None = None
        self._midway: Midway | None = None
        self._epoch = self._batches = 0
        self._logs: dict[str, Any] = {}
        self._metrics: list[np.ndarray] = []

    def restore(self, model: keras.Model) -> int:
        """Loads the newest whole checkpoint into the compiled `model`.

        Args:
            model: the one that was checkpointed, as it was built.

        Returns:
            The epochs it has done, 0 when there is no checkpoint.

        Raises:
            InputError: the checkpoint belongs to another model or another training.
        """
        variables = variables_of(model) + self.beside
        newest = on_chief(lambda: self._newest(variables))
        text, *_ = gather_texts(json.dumps(newest.state if newest else None))
        state = json.loads(text)
        if state is None:
            return 0
        own = newest.values if newest else [keras.ops.convert_to_numpy(v) for v in variables]
        values = from_chief(own)
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        if state.get("kept"):
            base_model = base_model_of(model)
            self.kept = from_chief(newest.kept if newest else base_model.get_weights())
        self.history = state["history"]
        if self.unfreezing is not None:
            self.unfreezing.set_state(state["unfreezing"])
        if state.get("batches"):
            beside = values[len(values) - len(self.beside) :]
            metrics = newest.metrics if newest else None
            self._midway = Midway(state["batches"], state["logs"], metrics, self.beside, beside)
        return len(self.history)

    def reached(self, epochs: int) -> str:
        """Returns how far the restored training has come, in words; "" at its beginning.

        Args:
            epochs: what `restore` returned.
        """
        if self._midway is not None:
            return f"batch {self._midway.batches} of epoch {epochs + 1}"
        return f"epoch {epochs}" if epochs else ""

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch = epoch + 1
        if self._midway is not None:
            self._midway.begin(self.model)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._batches, self._logs = batch + 1, logs or {}
        if self._midway is not None:
            if self._batches < self._midway.batches:
                return
            self._midway.end()
            self._midway = None
            return
        let_wait()
        number = told_together(self.model)
        if number is not None:
            self._metrics = metric_values(self.model)
            self._stop(number)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._metrics = metric_values(self.model)

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        number = told_together(self.model)
        if number is not None:
            self._stop(number)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = {key: float(value) for key, value in (logs or {}).items()}
        self.history.append({"epoch": epoch + 1, **logs})
        if is_chief():
            self._write(f"epoch-{epoch + 1:03d}.npz", {}, ())
            self._write_history(self.history)
        number = told_together(self.model)
        if number is not None:
            on_chief(lambda: None)  # the others wait until it is written
            raise Stopped(number)

    def _stop(self, number: int) -> None:
        name = f"epoch-{self._epoch:03d}-batch-{self._batches:06d}.npz"
        logs = {key: float(value) for key, value in self._logs.items()}
        state = {"batches": self._batches, "logs": logs}
        on_chief(lambda: self._write(name, state, self._metrics))
        where = f"batch {self._batches} of epoch {self._epoch} of {self.folder.name}"
        raise Stopped(number, f"everything up to {where}")

    def _write(self, name: str, more: dict[str, Any], metrics: Sequence[np.ndarray]) -> None:
        variables = [keras.ops.convert_to_numpy(v) for v in variables_of(self.model) + self.beside]
        kept = self.keeping()
        state = {
            "identity": self.identity,
            "variables": len(variables),
            "history": self.history,
            "unfreezing": None if self.unfreezing is None else self.unfreezing.get_state(),
            "kept": len(kept),
            "metrics": len(metrics),
            **more,
        }
        named = {"": variables, "kept-": kept, "metric-": metrics}
        arrays = {
            f"{kind}{index}": value
            for kind, values in named.items()
            for index, value in enumerate(values)
        }
        arrays["state"] = np.array(json.dumps(state))
        write_arrays(self.folder / "checkpoints" / name, arrays)
        for old in self._paths()[:-2]:
            old.unlink()

    def _write_history(self, history: list[dict[str, float]]) -> None:
        write_text(self.folder / "history.csv", _csv(history))

    def _newest(self, variables: list[Any]) -> _Stored | None:
        """Reads the newest checkpoint."""
        for path in reversed(self._paths()):
            try:
                stored = _read(path)
            except InputError as error:
                aside = path.with_suffix(".damaged")
                path.replace(aside)
                print(f"{error} It is {aside.name} now; the one before is taken.", file=sys.stderr)
                continue
            if self.identity and stored.state.get("identity", self.identity) != self.identity:
                raise InputError(
                    f"checkpoints must be of this training; {path} is of one with another seed, "
                    "other settings or other images. Delete it, or start again with --overwrite."
                )
            if [value.shape for value in stored.values] != [tuple(v.shape) for v in variables]:
                raise InputError(f"model must be the one checkpointed in {path}; it differs.")
            # A kill may have come between the checkpoint and the table.
            self._write_history(stored.state["history"])
            return stored
        return None

    def _paths(self) -> list[Path]:
        paths = self.folder.glob("checkpoints/epoch-*.npz")
        return sorted(paths, key=_place)


def _place(path: Path) -> tuple[float, float]:
    """Epoch and batch of a checkpoint; the end of an epoch is after all of its batches."""
    epoch, batch, *_ = *map(float, re.findall(r"\d+", path.stem)), math.inf
    return epoch, batch


def read_history(path: Path | str) -> list[dict[str, float]]:
    """Returns the rows of a `history.csv`; what an epoch did not log is left out of its row.

    Raises:
        InputError: the file cannot be read or is damaged.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return [
                {key: float(value) for key, value in row.items() if value}
                for row in csv.DictReader(file)
            ]
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (ValueError, TypeError, csv.Error) as error:
        raise InputError(
            f"{path} must be a table of numbers; {error}. It is damaged; delete it to go on."
        ) from None


@dataclass(frozen=True)
class _Stored:
    """A checkpoint as it is on disk."""

    state: dict[str, Any]
    values: list[np.ndarray]
    kept: list[np.ndarray]
    metrics: list[np.ndarray]


def _read(path: Path) -> _Stored:
    """Reads one checkpoint."""
    arrays = read_arrays(path)
    try:
        state = json.loads(str(arrays["state"]))
        if not isinstance(state["history"], list):
            raise TypeError("history")
        counts = {"": state["variables"]}
        counts |= {"kept-": state.get("kept", 0), "metric-": state.get("metrics", 0)}
        parts = [
            [arrays[f"{kind}{index}"] for index in range(count)] for kind, count in counts.items()
        ]
        return _Stored(state, *parts)
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path} is damaged (it is no checkpoint).") from None


def variables_of(model: keras.Model) -> list[Any]:
    """Returns all that decides the next steps: the model's variables, then the optimizers'.

    Args:
        model: compiled. One that trains with several optimizers has them in `optimizers`.
    """
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_weights)
    optimizers = getattr(model, "optimizers", [model.optimizer])
    state = [variable for optimizer in optimizers for variable in optimizer.variables]
    # Metrics start anew each epoch, and `model.variables` may list the optimizer's own.
    apart = [*state, *(v for metric in model.metrics for v in metric.variables)]
    apart_ids = {id(variable) for variable in apart}
    own = [variable for variable in model.variables if id(variable) not in apart_ids]
    return own + state


def _csv(history: list[dict[str, float]]) -> str:
    text = io.StringIO()
    columns = list(dict.fromkeys(key for row in history for key in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()
