"""Checks of what a user hands in, each failing with one line that names the argument.

Every message has the same three parts: the argument, what was expected, what came.
The command line prints the line and exits with status 2.
"""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Iterable
from typing import Any

import numpy as np


class InputError(ValueError):
    """The caller's input is wrong; the message is one line that says how to mend it."""


def nearest(value: str, known: Iterable[str]) -> str:
    """Returns `" Did you mean 'x'?"` for the known name closest to `value`, else `""`."""
    close = difflib.get_close_matches(str(value), list(known), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""


def check_choice(argument: str, value: str, known: Iterable[str]) -> str:
    """Returns `value` when it is one of `known`, else raises with the list and the nearest."""
    known = sorted(known)
    if value not in known:
        raise InputError(
            f"{argument} must be one of {', '.join(known)}; received {value!r}."
            + nearest(value, known)
        )
    return value


def as_names(given: str | Iterable[str]) -> tuple[str, ...]:
    """Returns several names, of which one alone may come without brackets.

    Args:
        given: names.
    """
    return (given,) if isinstance(given, str) else tuple(given)


def check_number(
    argument: str,
    value: Any,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
    integer: bool = False,
) -> Any:
    """Returns `value` when it is a finite number within the bounds, else raises `InputError`.

    `minimum` and `maximum` are inclusive, `above` and `below` are exclusive.
    """
    kind = numbers.Integral if integer else numbers.Real
    good = isinstance(value, kind) and not isinstance(value, bool) and np.isfinite(float(value))
    if good and minimum is not None:
        good = value >= minimum
    if good and maximum is not None:
        good = value <= maximum
    if good and above is not None:
        good = value > above
    if good and below is not None:
        good = value < below
    if not good:
        bounds = [
            f"{sign} {bound}"
            for sign, bound in ((">", above), (">=", minimum), ("<", below), ("<=", maximum))
            if bound is not None
        ]
        noun = "an integer" if integer else "a number"
        raise InputError(
            f"{argument} must be {noun} {' and '.join(bounds)}; received {value!r}.".replace(
                "  ", " "
            )
        )
    return value


def check_flag(argument: str, value: bool) -> bool:
    """Returns `value` when it is True or False.

    Raises:
        InputError: it is anything else.
    """
    if not isinstance(value, bool):
        raise InputError(f"{argument} must be True or False; received {value!r}.")
    return value


def check_finite_weights(argument: str, model: Any) -> None:
    """Refuses a model that a diverged training has left.

    Args:
        argument: what the model is called.
        model: a Keras model.

    Raises:
        InputError: a weight is NaN or infinite.
    """
    for variable in model.weights:
        values = np.asarray(variable)
        if values.dtype.kind == "V":  # bfloat16
            values = values.astype(np.float32)
        bad = int(values.size - np.isfinite(values).sum())
        if bad:
            raise InputError(
                f"{argument} must have finite weights; {bad} of {values.size} in {variable.path} "
                "are NaN or infinite. Did its training diverge? Train it with a smaller learning "
                "rate."
            )


def check_epsilon(argument: str, value: float, norm: str = "inf") -> float:
    """Returns a radius usable for images in [0, 1].

    An L-infinity radius above 1 is refused, since it is almost always one of 8-bit pixels.
    """
    if norm != "inf":
        return check_number(argument, value, above=0)
    try:
        return check_number(argument, value, above=0, maximum=1)
    except InputError:
        hint = ""
        if isinstance(value, numbers.Real) and 1 < float(value) <= 255:
            hint = f" Did you mean {value:g}/255?"
        raise InputError(
            f"{argument} must be in (0, 1] for images in [0, 1]; received {value!r}.{hint}"
        ) from None


def check_images(images: Any, argument: str = "images") -> np.ndarray:
    """Returns `images` as float32 [N, H, W, C] in [0, 1].

    Raises:
        InputError: not rank 4, empty, integer pixels, NaN or infinite values, or values
            outside [0, 1].
    """
    array = _as_array(images, argument)
    if array.ndim != 4 or array.shape[-1] not in (1, 3) or 0 in array.shape:
        raise InputError(
            f"{argument} must be a non-empty array [N, H, W, C] with 1 or 3 channels; "
            f"received shape {array.shape}."
        )
    if array.dtype.kind not in "fiu":
        raise InputError(f"{argument} must be float32 in [0, 1]; received dtype {array.dtype}.")
    low, high = float(array.min()), float(array.max())
    if array.dtype.kind in "iu":
        raise InputError(
            f"{argument} must be float32 in [0, 1]; received {array.dtype} with values from "
            f"{low:g} to {high:g}. Did you mean {argument}.astype('float32') / 255?"
        )
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = int(np.count_nonzero(~np.isfinite(array).all(axis=(1, 2, 3))))
        raise InputError(
            f"{argument} must be finite; received NaN or infinity in {bad} of {len(array)} images."
        )
    if low < 0 or high > 1:
        hint = f" Did you mean {argument} / 255?" if low >= 0 and high > 2 else ""
        raise InputError(
            f"{argument} must be in [0, 1]; received values from {low:g} to {high:g}.{hint}"
        )
    return array.astype(np.float32, copy=False)


class MultiHot(np.ndarray):
    """Labels of images that can be of several classes: bool rows [N, classes], yes or no for each.

    A class of its own, so that a part of the rows, each of which may happen to name one class, is
    still read row by row.
    """


def check_labels(
    labels: Any,
    count: int,
    num_classes: int | None = None,
    argument: str = "labels",
    *,
    several: bool = False,
) -> np.ndarray:
    """Returns `labels` as int64 [count], each in [0, num_classes).

    Class ids may come as one column, [count, 1], and as one-hot rows, [count, classes]. Where
    `several`, rows that do not all name exactly one class become a `MultiHot` [count, classes].

    Raises:
        InputError: rows that name several classes or none, another length or width, words,
            fractional or out-of-range class ids.
    """
    array = labels if isinstance(labels, MultiHot) else _as_array(labels, argument)
    if array.ndim == 2 and len(array) == count:
        array = array[:, 0] if array.shape[1] == 1 else _of_rows(array, argument, several)
    if isinstance(array, MultiHot):
        if num_classes not in (None, array.shape[1]):
            raise InputError(
                f"{argument} must have a column for each of the model's {num_classes} classes; "
                f"received rows of {array.shape[1]}."
            )
        return array
    if array.ndim != 1 or len(array) != count:
        raise InputError(
            f"{argument} must be {count} class ids, shape ({count},); received shape {array.shape}."
        )
    if array.dtype.kind in "USO" and len(array):
        raise InputError(
            f"{argument} must be integer class ids; received {str(array[0])!r} and the like. "
            f"Did you mean np.unique({argument}, return_inverse=True)[1]?"
        )
    if array.dtype.kind not in "iu" and not (
        array.dtype.kind == "f" and np.array_equal(array, np.round(array))
    ):
        raise InputError(f"{argument} must be integer class ids; received dtype {array.dtype}.")
    array = array.astype(np.int64)
    if num_classes is not None and len(array) and (array.min() < 0 or array.max() >= num_classes):
        raise InputError(
            f"{argument} must be in [0, {num_classes}); received values from "
            f"{array.min()} to {array.max()}."
        )
    return array


def _of_rows(rows: np.ndarray, argument: str, several: bool) -> np.ndarray:
    """Returns the class of each row; where a row names another number of classes, all rows."""
    if rows.dtype.kind not in "fiub" or not np.isin(rows, (0, 1)).all():
        raise InputError(
            f"{argument} must be class ids or one-hot rows of 0 and 1; received {rows.dtype} of "
            f"shape {rows.shape} with other values. Did you mean {argument}.argmax(-1)?"
        )
    counts = rows.sum(axis=1)
    if (counts == 1).all() and not isinstance(rows, MultiHot):
        return rows.argmax(axis=1)
    if not several:
        raise InputError(
            f"{argument} must name one class an image here; received multi-hot rows, "
            f"{int((counts != 1).sum())} of {len(rows)} with {int(counts.min())} to "
            f"{int(counts.max())} classes. Judge each class by itself, or leave these images out."
        )
    return rows.astype(bool).view(MultiHot)


def _as_array(values: Any, argument: str) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError:
        raise InputError(
            f"{argument} must be one array; received parts of different shapes."
        ) from None
