"""What every entry takes for a model: an object, a file, a SavedModel, a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from robustcls._validation import InputError
from robustcls.models.building import load_classifier
from robustcls.runs import CONFIG, Run

_SAVED_MODEL = "saved_model.pb"


def open_model(model: Any) -> Any:
    """Returns the model that is meant.

    Args:
        model: a Keras model or a trainer of this package, whose base model is meant; a `.keras`
            file; a run or its folder, whose last trained model is meant; a SavedModel folder, or an
            export, whose newest version is meant; or anything else.

    Returns:
        A Keras model; the `Path` of a SavedModel folder; or what is none of the above as it came.

    Raises:
        InputError: a path leads to none of these, or to one that cannot be read.
    """
    if isinstance(model, Run):
        return _trained(model)
    if not isinstance(model, str | Path):
        return model.base_model if _is_trainer(model) else model
    path = Path(model)
    if not path.is_dir():
        return load_classifier(path)
    if (path / CONFIG).is_file():
        return _trained(Run.open(path))
    versions = [p for p in path.iterdir() if p.name.isdecimal() and (p / _SAVED_MODEL).is_file()]
    if (path / _SAVED_MODEL).is_file():
        return path
    if not versions:
        raise InputError(
            "model must be a .keras file, a run or a SavedModel folder; "
            f"{path} holds no {_SAVED_MODEL}."
        )
    return max(versions, key=lambda version: int(version.name))


def range_of_trainer(model: Any) -> tuple[float, float] | None:
    """Returns the pixels that a trainer of this package was told its base model takes.

    Args:
        model: anything; None for what is no trainer, or one of images in [0, 1].
    """
    given = getattr(model, "input_range", None) if _is_trainer(model) else None
    return None if given is None or tuple(given) == (0.0, 1.0) else tuple(given)


def _is_trainer(model: Any) -> bool:
    """Whether a model is within; a user's own Keras model may have a part of that name."""
    if not isinstance(getattr(model, "base_model", None), keras.Model):
        return False
    kinds = [kind.__module__ for kind in type(model).__mro__]
    ours = any(name.startswith("robustcls.training") for name in kinds)
    return ours or not isinstance(model, keras.Model)


def _trained(run: Run) -> keras.Model:
    name = run.require_trained(kind="classifier")
    return load_classifier(run.folder(name) / "model.keras")
