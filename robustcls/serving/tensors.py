"""Arrays to and from TensorFlow's protos."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from robustcls.serving.errors import invalid


def to_array(name: str, proto: tensor_pb2.TensorProto, max_bytes: int) -> np.ndarray:
    """Returns the array of a proto that a stranger sent.

    Raises:
        ServingError: its type, shape and content do not fit, or it would unpack to more than
            `max_bytes`.
    """
    shape = proto.tensor_shape
    sizes = [dim.size for dim in shape.dim]
    if shape.unknown_rank or min(sizes, default=0) < 0:
        raise invalid(f"{name} must have a known shape; received {sizes}.")
    try:
        kind = tf.as_dtype(proto.dtype)
        width = kind.size or 8
    except TypeError:
        raise invalid(f"{name} must have a known type; received {proto.dtype}.") from None
    # One value may stand for a whole tensor.
    if math.prod(sizes) * width > max_bytes:
        raise invalid(f"{name} must unpack to at most {max_bytes} bytes; received shape {sizes}.")
    try:
        content = proto.tensor_content
        if content and kind.size:  # what `tf.make_ndarray` does, in a fraction of its time
            return np.frombuffer(content, kind.as_numpy_dtype).reshape(sizes)
        return tf.make_ndarray(proto)
    except (TypeError, ValueError, OverflowError, IndexError, KeyError):
        raise invalid(
            f"{name} must hold values of {kind.name} in shape {sizes}; they do not fit."
        ) from None


def from_values(name: str, values: Any, kind: tf.DType, *, flags: bool = False) -> np.ndarray:
    """Returns the array of numbers, or of true and false, that JSON or a list holds.

    Args:
        name: of the tensor, for messages.
        values: numbers in lists in lists.
        kind: its type, no string.
        flags: whether there may be true or false among the values, which NumPy takes for numbers
            (bool, default False).

    Raises:
        ServingError: values of another type, that do not fit, or rows of several shapes.
    """
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError):  # rows of different lengths, too many dimensions
        array = np.empty(0, object)
    kinds = "b" if kind == tf.bool else "iu" if kind.is_integer else "iuf"
    mixed = flags and kinds != "b" and _has_flag(values)
    if (array.dtype.kind not in kinds or mixed) and array.size:
        raise invalid(f"{name} must be an array of {kind.name}; received other values.")
    if array.dtype.kind == "O":
        raise invalid(f"{name} must be an array of {kind.name} with rows of one shape.")
    if kind.is_integer and array.size:
        lowest, highest = kind.min, kind.max
        if int(array.min()) < lowest or int(array.max()) > highest:
            raise invalid(f"{name} must be in [{lowest}, {highest}]; it is not.")
    with np.errstate(over="ignore"):
        return array.astype(kind.as_numpy_dtype)


def _has_flag(value: Any) -> bool:
    return any(map(_has_flag, value)) if isinstance(value, list) else isinstance(value, bool)


def fill_proto(proto: tensor_pb2.TensorProto, array: np.ndarray) -> None:
    """Puts an array into an empty proto, as bytes where its type allows."""
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if array.dtype == object:
        proto.dtype = tf.string.as_datatype_enum
        proto.string_val.extend(array.ravel().tolist())
    else:
        proto.dtype = tf.as_dtype(array.dtype).as_datatype_enum
        proto.tensor_content = array.tobytes()
