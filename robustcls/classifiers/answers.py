"""When a classifier is right: about the one class of an image, or about each of several."""

from __future__ import annotations

from typing import Any

import numpy as np

from robustcls._validation import InputError, MultiHot, check_labels
from robustcls.classifiers.classifier import Classifier


def labels_for(classifier: Classifier, labels: Any, count: int) -> np.ndarray:
    """Returns labels that a classifier can be judged by.

    Args:
        classifier: one that `prepare` has told the number of its classes.
        labels: class ids [N], one column of them, one-hot rows, or multi-hot rows [N, classes].
        count: of the images, N.

    Returns:
        int64 [N], or a `MultiHot` where rows do not all name exactly one class.

    Raises:
        InputError: they are nothing of the kind, do not fit the classes, or name several classes
            of a model whose softmax, or only output, answers with one.
    """
    labels = check_labels(labels, count, several=True)
    outputs = classifier.outputs
    one = classifier.ending == "softmax" or (outputs.are_probabilities and not outputs.independent)
    if isinstance(labels, MultiHot) and (one or outputs.single):
        counts = labels.sum(axis=1)
        raise InputError(
            f"labels must name one class an image for {classifier.name}, which "
            f"{'has one output' if outputs.single else 'ends in a softmax'}; received multi-hot "
            f"rows, of {int(counts.min())} to {int(counts.max())} classes. Did you mean a model "
            "that ends in a sigmoid for each class?"
        )
    return check_labels(labels, count, classifier.num_classes, several=True)


def is_right(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns for which images a classifier is right, bool [N].

    Of one class, it is right when that class has the highest logit. Of several, it says yes to
    each class whose logit is above 0, and is right when it is about every one.

    Args:
        logits: float32 [N, classes].
        labels: int64 [N], or a `MultiHot`.
    """
    if labels.ndim == 2:
        return np.asarray(((logits > 0) == labels).all(axis=1))
    return logits.argmax(axis=1) == labels
