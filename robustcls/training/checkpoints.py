"""A checkpoint after every epoch, from which a killed training goes on to the same result."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from robustcls._validation import InputError
from robustcls.distribution.collectives import from_chief, gather_texts, is_chief, on_chief
from robustcls.files import read_arrays, write_arrays, write_text
from robustcls.training.unfreezing import PlateauUnfreezing


class EpochCheckpoint(keras.callbacks.Callback):
    """Writes all that decides the next epochs to `checkpoints/epoch-NNN.npz`.

    That is every variable of the model (weights, batch-norm statistics, seeds) and of the
    optimizer (momentum, iterations), the history so far, and the state of `unfreezing`. A model
    that trains with several optimizers has them, built, in its attribute `optimizers`. The last
    two checkpoints are kept. `history.csv` is written anew beside the folder. Of several workers
    the chief alone writes and reads, and tells the others. A damaged checkpoint is put aside, and
    the one before is taken.

    Args:
        folder: the model's folder in the run.
        unfreezing: the callback whose state to keep, if there is one.
        beside: more variables to keep, beside the model's and the optimizer's.
        identity: of the training, all that decides its result; "" takes the checkpoints of any
            (str, default "").
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
        text, *_ = gather_texts(json.dumps(newest[0] if newest else None))
        state = json.loads(text)
        if state is None:
            return 0
        own = newest[1] if newest else [keras.ops.convert_to_numpy(v) for v in variables]
        for variable, value in zip(variables, from_chief(own), strict=True):
            variable.assign(value)
        self.history = state["history"]
        if self.unfreezing is not None:
            self.unfreezing.set_state(state["unfreezing"])
        return len(self.history)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = {key: float(value) for key, value in (logs or {}).items()}
        self.history.append({"epoch": epoch + 1, **logs})
        if not is_chief():
            return
        variables = variables_of(self.model) + self.beside
        state = {
            "identity": self.identity,
            "variables": len(variables),
            "history": self.history,
            "unfreezing": None if self.unfreezing is None else self.unfreezing.get_state(),
        }
        arrays = {
            str(index): keras.ops.convert_to_numpy(variable)
            for index, variable in enumerate(variables)
        }
        arrays["state"] = np.array(json.dumps(state))
        write_arrays(self.folder / "checkpoints" / f"epoch-{epoch + 1:03d}.npz", arrays)
        for old in self._paths()[:-2]:
            old.unlink()
        self._write_history(self.history)

    def _write_history(self, history: list[dict[str, float]]) -> None:
        write_text(self.folder / "history.csv", _csv(history))

    def _newest(self, variables: list[Any]) -> tuple[dict[str, Any], list[np.ndarray]] | None:
        """Reads the newest checkpoint: the state beside the variables, and their values."""
        for path in reversed(self._paths()):
            try:
                state, values = _read(path)
            except InputError as error:
                aside = path.with_suffix(".damaged")
                path.replace(aside)
                print(f"{error} It is {aside.name} now; the one before is taken.", file=sys.stderr)
                continue
            if self.identity and state.get("identity", self.identity) != self.identity:
                raise InputError(
                    f"checkpoints must be of this training; {path} is of one with another seed, "
                    "other settings or other images. Delete it, or start again with --overwrite."
                )
            if [value.shape for value in values] != [tuple(v.shape) for v in variables]:
                raise InputError(f"model must be the one checkpointed in {path}; it differs.")
            # A kill may have come between the checkpoint and the table.
            self._write_history(state["history"])
            return state, values
        return None

    def _paths(self) -> list[Path]:
        paths = self.folder.glob("checkpoints/epoch-*.npz")
        return sorted(paths, key=lambda path: int(re.findall(r"\d+", path.stem)[0]))


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


def _read(path: Path) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Reads one checkpoint: the state beside the variables, and their values."""
    arrays = read_arrays(path)
    try:
        state = json.loads(str(arrays["state"]))
        values = [arrays[str(index)] for index in range(state["variables"])]
        if not isinstance(state["history"], list):
            raise TypeError("history")
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path} is damaged (it is no checkpoint).") from None
    return state, values


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
