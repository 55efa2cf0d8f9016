"""The images of a run."""

from __future__ import annotations

from typing import Any

from robustcls._validation import InputError
from robustcls.classifiers.classifier import Classifier
from robustcls.data.sources import load
from robustcls.data.splits import Splits
from robustcls.runs import Run


def resizing(classifier: Classifier) -> dict[str, Any]:
    """Returns the arguments of `robustcls.load` that give images of a model's shape.

    Args:
        classifier: of the model.
    """
    height, width, channels = classifier.image_shape or (None, None, None)
    size = None if height is None or width is None else (height, width)
    return {"image_size": size, "channels": channels}


def load_run_splits(run: Run) -> Splits:
    """Loads the images that a run was trained on.

    Raises:
        InputError: they cannot be had, or have changed since.
    """
    settings = dict(run.config["train"]["data"])
    splits = load(settings.pop("name"), **settings)
    if splits.fingerprint != run.config["data"]["fingerprint"]:
        raise InputError(
            f"data must be what the run was trained on; {splits.source} has changed since."
        )
    return splits
