"""Images through a classifier, batch by batch, so that memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from robustcls._progress import tqdm
from robustcls._settings import PositiveInt, checked
from robustcls.classifiers.adapters import classifier_of
from robustcls.classifiers.answers import labels_for
from robustcls.classifiers.classifier import PROBES, Classifier
from robustcls.classifiers.ranges import InputRange, Preprocess, require_fitting_range
from robustcls.data.pipeline import arrays_of
from robustcls.data.splits import Split

Change: TypeAlias = Callable[[np.ndarray, int], Any]
"""What is done to float32 images in [0, 1] first, given them and the number of their batch."""


def floats(images: np.ndarray) -> np.ndarray:
    """Returns uint8 or float32 images as float32 in [0, 1]."""
    if images.dtype == np.uint8:
        return images.astype(np.float32) / np.float32(255)
    return images


def prepared(
    model: Any,
    data: Split | tuple[np.ndarray, np.ndarray] | tf.data.Dataset,
    *,
    preprocess: Preprocess | None = None,
    input_range: InputRange | None = None,
    output: str | int | None = None,
    samples: int = 1,
) -> tuple[Classifier, np.ndarray, np.ndarray]:
    """Returns a model as a classifier, and images and labels that fit it.

    Args:
        model: as for an attack: a Keras classifier, float32 images [N, H, W, C] in [0, 1] to
            logits [N, classes], or what `attacks.adapt` takes or returns.
        data: a split, (images float32 [N, H, W, C] in [0, 1], labels int [N] or multi-hot rows),
            or a dataset of such pairs.
        preprocess: as for `attacks.adapt` (default None).
        input_range: as for `attacks.adapt` (default None).
        output: as for `attacks.adapt` (default None).
        samples: as for `Classifier.prepare` (default 1).

    Returns:
        The classifier, the images as they are stored, the labels int64 [N] or a `MultiHot`.

    Raises:
        InputError: the model or the data is unusable, or they do not fit together.
    """
    images, labels = arrays_of(data)
    classifier = classifier_of(model, preprocess=preprocess, input_range=input_range, output=output)
    prepare(classifier, images, samples)
    labels = labels_for(classifier, labels, len(images))
    require_fitting_range(classifier, images, labels)
    return classifier, images, labels


@checked
def subset(count: int, limit: PositiveInt | None, seed: int) -> np.ndarray:
    """Returns the sorted indices of a random subset of `limit` of `count` images.

    Args:
        count: how many images there are.
        limit: how many to choose; None takes all (int >= 1 or None).
        seed: of the choice.
    """
    if limit is None or limit >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).permutation(count)[:limit])


def prepare(classifier: Classifier, images: np.ndarray, samples: int = 1) -> int:
    """Returns the number of classes of a classifier that takes the images.

    Args:
        classifier: what `attacks.adapt` returns.
        images: uint8 or float32 in [0, 1], [N, H, W, C]; a few of them are looked at.
        samples: as for `Classifier.prepare` (default 1).

    Raises:
        InputError: it does not take them.
    """
    probes = np.linspace(0, len(images) - 1, min(len(images), PROBES)).astype(int)
    return classifier.prepare(floats(images[probes]), samples)


def predict(
    classifier: Classifier,
    images: np.ndarray,
    places: np.ndarray,
    *,
    batch_size: int,
    change: Change | None = None,
    name: str = "clean",
    progress: bool = False,
) -> np.ndarray:
    """Returns the logits of `images[places]`, float32 [len(places), classes].

    Args:
        classifier: one that `prepare` has seen.
        images: uint8 or float32 in [0, 1], [N, H, W, C]; a memmap is read piece by piece.
        places: int [n], which images.
        batch_size: images the model sees at a time.
        change: done to each batch first.
        name: of the progress bar.
        progress: show a bar.
    """
    logits = np.empty((len(places), classifier.num_classes), np.float32)
    starts = range(0, len(places), batch_size)
    bar = tqdm(starts, desc=name, unit="batch", disable=not progress, leave=False)
    for number, start in enumerate(bar):
        chosen = slice(start, start + batch_size)
        batch = floats(images[places[chosen]])
        if change is not None:
            batch = np.asarray(change(batch, number))
        logits[chosen] = classifier.predict(batch)
    return logits
