"""`load`: a measure of familiarity that was saved, for the model that it was fitted to."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from robustcls._validation import InputError
from robustcls.classifiers.adapters import classifier_of
from robustcls.classifiers.ranges import InputRange, Preprocess
from robustcls.evaluation.prediction import prepare
from robustcls.familiarity.familiarity import Familiarity
from robustcls.familiarity.features import features_of
from robustcls.familiarity.neighbors import TrainingImages
from robustcls.familiarity.registry import METHODS

# By how much a model's features may miss those that were kept, of the largest.
_SAME = 1e-2


def load(
    path: Path | str,
    model: Any,
    *,
    preprocess: Preprocess | None = None,
    input_range: InputRange | None = None,
    output: str | int | None = None,
) -> Familiarity:
    """Reads what `Familiarity.save` wrote.

    Args:
        path: of the file.
        model: the classifier that it was fitted to, as for `fit`.
        preprocess: as for `fit` (default None).
        input_range: as for `fit` (default None).
        output: as for `fit` (default None).

    Raises:
        InputError: there is no such file, or it was fitted to another model.
    """
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
        words = json.loads(str(arrays.pop("words")))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"path must be a file of Familiarity.save; {path}: {reason}.") from None
    parts: dict[str, dict[str, np.ndarray]] = {"state": {}, "training": {}}
    for key, value in arrays.items():
        kind, _, name = key.partition("/")
        parts[kind][name] = value
    training = TrainingImages(**parts["training"])
    classifier = classifier_of(model, preprocess=preprocess, input_range=input_range, output=output)
    prepare(classifier, training.probes)
    features = features_of(classifier, training.probes)
    found, _ = features.of(training.probes, len(training.probes))
    same = found.shape == training.probe_features.shape
    scale = max(1.0, float(np.abs(training.probe_features).max()))
    if not same or np.abs(found - training.probe_features).max() > _SAME * scale:
        raise InputError(
            f"model must be the one that {path} was fitted to; {classifier.name} finds other "
            "features in the same images. Fit it again."
        )
    method = METHODS.find(words.pop("method"))(**words.pop("settings"))
    return Familiarity(
        method=method,
        **words,
        training=training,
        classifier=classifier,
        extractor=features,
        state=parts["state"],
    )
