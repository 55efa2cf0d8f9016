"""Checks of what only a running step sees, each failing with one line.

A step is a graph, so the check is an assertion in it, and `plain_errors` around `fit` turns its
failure into an `InputError`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from robustcls._validation import InputError

Explain = Callable[..., str]
# Images may leave their range a little: augmentations overshoot, and are clipped with the rest.
SLACK = 0.05
# `... [<<range>>] [0] [255]` in graphs, `... b'<<range>>'` and a line for each value without.
_FOUND = re.compile(r"<<(\w+)>>'?\]?((?:[ \n]+\[?[-+.\w]+\]?)*)")

# What TensorFlow's sparse cross-entropy says of a label that the model has no class for.
_LABEL = re.compile(r"label value of (-?\d+) which is outside the valid range of \[0, (\d+)\)")


def require(good: tf.Tensor, name: str, values: list[tf.Tensor], passed: tf.Tensor) -> tf.Tensor:
    """Returns `passed`, and fails the step where `good` is False.

    Args:
        good: bool scalar.
        name: of the check, for `plain_errors`.
        values: scalars that the line tells of.
        passed: what the rest of the step uses.
    """
    with tf.control_dependencies([tf.debugging.Assert(good, [f"<<{name}>>", *values])]):
        return tf.identity(passed)


@contextmanager
def plain_errors(explanations: dict[str, Explain]) -> Iterator[None]:
    """Turns failures of `require` into one line.

    Args:
        explanations: for each check the function from its values to the line.

    Raises:
        InputError: a check failed.
    """
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        label = _LABEL.search(error.message or "")
        if label is not None:
            raise InputError(
                f"labels must be class ids in [0, {label[2]}); received {label[1]}."
            ) from None
        found = _FOUND.search(error.message or "")
        if found is None or found[1] not in explanations:
            raise
        values = [float(number) for number in re.findall(r"[-+.\w]+", found[2])]
        line = explanations[found[1]](*values)
    else:
        return
    raise InputError(line)


def within(images: Any, low: float, high: float) -> Any:
    """Returns float `images`, which must be in [low, high] and use it; the check is "range".

    Args:
        images: float tensor.
        low: of the range.
        high: of the range.
    """
    smallest, largest = tf.reduce_min(images), tf.reduce_max(images)
    slack = SLACK * (high - low)
    good = (smallest >= low - slack) & (largest <= high + slack)
    if high - low > 2:
        # Images in [0, 1] would be black here.
        good &= (largest > 1) | (largest <= 0)
    return require(good, "range", [smallest, largest], images)


def out_of_range(low: float, high: float) -> Explain:
    """Returns the explanation of the check "range".

    Args:
        low: of the range.
        high: of the range.
    """

    def line(smallest: float, largest: float) -> str:
        expected = f"images must be in [{low:g}, {high:g}]"
        received = f"received values from {smallest:g} to {largest:g}"
        if (low, high) != (0, 1):
            hint = ""
            if smallest >= 0 and largest <= 1:
                hint = f" Did you mean {low:g} + {high - low:g} * images?"
            return f"{expected}, the trainer's input_range; {received}.{hint}"
        if smallest >= 0 and largest <= 255:
            hint = "input_range=(0, 255), or images / 255 for a model of images in [0, 1]?"
        elif smallest >= -1.05 and largest <= 1.05:
            hint = "input_range=(-1, 1)?"
        else:
            hint = "input_range=(lowest, highest), or clip=False for inputs without bounds?"
        return f"{expected}; {received}. Did you mean {hint}"

    return line
