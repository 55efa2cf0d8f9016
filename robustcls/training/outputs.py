"""What a Keras classifier returns in training: logits, softmax or sigmoids."""

from __future__ import annotations

from typing import Any, Literal

import tensorflow as tf

from robustcls.classifiers.logits import ending_kind
from robustcls.classifiers.outputs import Outputs

Returned = Literal["logits", "softmax", "sigmoid"]

_RETURNED: dict[str, Returned] = {"linear": "logits", "softmax": "softmax", "sigmoid": "sigmoid"}


def returned(model: Any) -> Returned | None:
    """Returns what a model's graph ends in, behind dropout, reshaping, scaling and nested models.

    Args:
        model: anything.

    Returns:
        "logits", "softmax" or "sigmoid"; None when the graph does not say, as of a subclassed
        model, or when there are several outputs.
    """
    return _RETURNED.get(ending_kind(model))


def logits_of(outputs: tf.Tensor, kind: Returned | None) -> tf.Tensor:
    """Returns logits, float32 [N, classes], of what a classifier returned.

    Args:
        outputs: float [N, classes], or [N, 1] or [N] for two classes.
        kind: what they are; None counts as logits.
    """
    if outputs.shape.rank == 1:
        outputs = outputs[:, None]
    single = outputs.shape[-1] == 1
    reading = Outputs(
        are_probabilities=kind in ("softmax", "sigmoid"),
        independent=kind == "sigmoid" and not single,
        single=single,
    )
    return reading.logits(outputs)


def outputs_of(logits: tf.Tensor, kind: Returned | None, width: int | None) -> tf.Tensor:
    """Returns what the classifier would return for logits; the inverse of `logits_of`.

    Args:
        logits: float32 [N, classes].
        kind: what it returns.
        width: 1 when it returns one number for two classes.
    """
    if width == 1:
        logits = logits[:, 1:] - logits[:, :1]
        return tf.sigmoid(logits) if kind == "sigmoid" else logits
    return tf.nn.softmax(logits) if kind == "softmax" else logits
