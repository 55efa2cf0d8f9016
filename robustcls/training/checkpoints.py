"""A checkpoint after every epoch, from which a killed training goes on to the same result."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from robustcls._validation import InputError
from robustcls.distribution.collectives import from_chief, gather_texts, is_chief, on_chief
from robustcls.runs import atomic, write_text
from robustcls.training.unfreezing import PlateauUnfreezing


class EpochCheckpoint(keras.callbacks.Callback):
    """Writes all that decides the next epochs to `checkpoints/epoch-NNN.npz`.

    That is every variable of the model (weights, batch-norm statistics, seeds) and of the
    optimizer (momentum, iterations), the history so far, and the state of `unfreezing`. A model
    that trains with several optimizers has them, built, in its attribute `optimizers`. The last
    two checkpoints are kept. `history.csv` is written anew beside the folder. Of several workers
    the chief alone writes and reads, and tells the others.

    Args:
        folder: the model's folder in the run.
        unfreezing: the callback whose state to keep, if there is one.
        beside: more variables to keep, beside the model's and the optimizer's.
    """

    def __init__(
        self,
        folder: Path | str,
        unfreezing: PlateauUnfreezing | None = None,
        beside: Sequence[Any] = (),
    ) -> None:
        super().__init__()
        self.beside = list(beside)
        self.folder = Path(folder)
        self.unfreezing = unfreezing
        self.history: list[dict[str, float]] = []

    def restore(self, model: keras.Model) -> int:
        """Loads the newest checkpoint into the compiled `model`; returns the epochs it has done.

        Returns 0 when there is no checkpoint.

        Raises:
            InputError: the checkpoint belongs to another model.
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
            "variables": len(variables),
            "history": self.history,
            "unfreezing": None if self.unfreezing is None else self.unfreezing.get_state(),
        }
        arrays = {
            str(index): keras.ops.convert_to_numpy(variable)
            for index, variable in enumerate(variables)
        }
        with atomic(self.folder / "checkpoints" / f"epoch-{epoch + 1:03d}.npz") as path:
            np.savez(path, state=np.array(json.dumps(state)), **arrays)
        for old in self._paths()[:-2]:
            old.unlink()
        write_text(self.folder / "history.csv", _csv(self.history))

    def _newest(self, variables: list[Any]) -> tuple[dict[str, Any], list[np.ndarray]] | None:
        """Reads the newest checkpoint: the state beside the variables, and their values."""
        paths = self._paths()
        if not paths:
            return None
        with np.load(paths[-1], allow_pickle=False) as archive:
            state = json.loads(str(archive["state"]))
            values = [archive[str(index)] for index in range(state["variables"])]
        if [value.shape for value in values] != [tuple(variable.shape) for variable in variables]:
            raise InputError(
                f"model must be the one checkpointed in {paths[-1]}; its variables differ."
            )
        return state, values

    def _paths(self) -> list[Path]:
        paths = self.folder.glob("checkpoints/epoch-*.npz")
        return sorted(paths, key=lambda path: int(re.findall(r"\d+", path.stem)[0]))


def read_history(path: Path | str) -> list[dict[str, float]]:
    """Returns the rows of a `history.csv`; what an epoch did not log is left out of its row."""
    with open(path, encoding="utf-8") as file:
        return [
            {key: float(value) for key, value in row.items() if value}
            for row in csv.DictReader(file)
        ]


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
