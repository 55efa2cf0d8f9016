"""Experiment trackers, through their own Keras callbacks, where they are installed."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras

from robustcls._validation import InputError, check_choice

TRACKERS = ("tensorboard", "mlflow", "wandb")
_CALLBACKS = {"mlflow": "mlflow.keras", "wandb": "wandb.integration.keras"}


def require_tracker(tracker: str | None) -> None:
    """Imports what a tracker needs.

    Args:
        tracker: one of `TRACKERS`, or None.

    Raises:
        InputError: it is none of them, or not installed.
    """
    if tracker is None or check_choice("tracker", tracker, TRACKERS) not in _CALLBACKS:
        return
    try:
        importlib.import_module(_CALLBACKS[tracker])
    except ImportError as error:
        raise InputError(
            f"tracker must be installed; {tracker} is not ({error.name or error} is missing). "
            f"Install it with: pip install {tracker}. tensorboard is always there."
        ) from None


@contextlib.contextmanager
def tracked(
    tracker: str | None, run: Path, model: str, settings: Mapping[str, Any]
) -> Iterator[list[keras.callbacks.Callback]]:
    """Opens the tracker's record of one training and yields the callbacks that write into it.

    `tensorboard/` is in the run whatever the tracker. Where a tracker keeps its records, and under
    which account, is the tracker's own affair (`MLFLOW_TRACKING_URI`, `WANDB_PROJECT` and so on).

    Args:
        tracker: one of `TRACKERS`, or None for no more than TensorBoard.
        run: the run folder, whose name the record gets.
        model: of the run.
        settings: of the training, for the record.
    """
    title = f"{run.resolve().name}/{model}"
    if tracker == "mlflow":
        mlflow, callbacks = map(importlib.import_module, ("mlflow", _CALLBACKS["mlflow"]))
        with mlflow.start_run(run_name=title):
            mlflow.log_dict(dict(settings), "settings.json")
            yield [callbacks.MlflowCallback()]
    elif tracker == "wandb":
        wandb, callbacks = map(importlib.import_module, ("wandb", _CALLBACKS["wandb"]))
        record = wandb.init(name=title, config=dict(settings))
        try:
            yield [callbacks.WandbMetricsLogger()]
        finally:
            record.finish()
    else:
        yield []
