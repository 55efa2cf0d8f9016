"""How robust a smaller or converted model still is: under noise, a transferred attack, its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from robustcls._validation import InputError
from robustcls.attacks.pgd import PGD
from robustcls.attacks.square import Square
from robustcls.classifiers.adapters import adapt
from robustcls.data.splits import Split
from robustcls.evaluation.corruptions.corruption import corrupt
from robustcls.evaluation.intervals import Measurement, measurement
from robustcls.evaluation.prediction import subset

#: Images float32 [N, H, W, C] in [0, 1] to logits float32 [N, K].
Predict = Callable[[np.ndarray], np.ndarray]

#: Test images that are changed, the same for every format.
IMAGES = 200
_BATCH = 32
_NOISE = ("gaussian_noise", 3)
_PGD = PGD(epsilon=8 / 255, steps=10, seed=0)
_SQUARE = Square(epsilon=8 / 255, queries=100, seed=0)
#: What the figures are under, by their names.
CHANGES = {
    "noise": "Gaussian noise of severity 3",
    "pgd": "PGD-10 on float32, 8/255",
    "square": "Square on itself, 100 queries, 8/255",
}


def robustness(
    network: keras.Model, formats: dict[str, Predict], split: Split
) -> dict[str, dict[str, Any]]:
    """Measures each format on the same `IMAGES` test images, changed.

    Args:
        network: the float32 model, images in [0, 1] to logits; PGD is run on it alone, and its
            images go to every format.
        formats: each by its name.
        split: the test images.

    Returns:
        For each format the accuracy, with its interval, under each of `CHANGES`; without an attack
        that cannot be run.
    """
    few = split.take(subset(len(split), IMAGES, seed=0))
    images, labels = few.float_images(), few.labels
    changed = {"noise": np.asarray(corrupt(images, *_NOISE, seed=0))}
    # A network without a gradient, or outputs that nobody can read, cannot be attacked.
    with contextlib.suppress(InputError):
        attacked = _PGD(adapt(network, input_range=(0, 1)), images, labels)
        changed["pgd"] = attacked.adversarial
    found: dict[str, dict[str, Any]] = {}
    for name, predict in formats.items():
        given = dict(changed)
        with contextlib.suppress(InputError):
            given["square"] = _SQUARE(adapt(predict), images, labels).adversarial
        right = {change: classes_of(predict, these) == labels for change, these in given.items()}
        found[name] = {
            change: as_figure(measurement(change, int(hits.sum()), len(hits)))
            for change, hits in right.items()
        }
    return found


def classes_of(predict: Predict, images: np.ndarray) -> np.ndarray:
    """Returns the class of each image, int64 [N], asked for in small batches."""
    parts = [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
    return np.concatenate([predict(part).argmax(-1) for part in parts])


def as_figure(found: Measurement) -> dict[str, float]:
    """Returns an accuracy as files and cards have it."""
    return {"value": found.accuracy, "low": found.low, "high": found.high}
