"""The protocol's tensors: names of types, and values in lists and in bytes."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from robustcls._validation import nearest
from robustcls.serving.errors import ServingError, invalid
from robustcls.serving.tensors import from_values

_KINDS = {
    "BOOL": tf.bool,
    "UINT8": tf.uint8,
    "UINT16": tf.uint16,
    "UINT32": tf.uint32,
    "UINT64": tf.uint64,
    "INT8": tf.int8,
    "INT16": tf.int16,
    "INT32": tf.int32,
    "INT64": tf.int64,
    "FP16": tf.float16,
    "FP32": tf.float32,
    "FP64": tf.float64,
    "BF16": tf.bfloat16,
    "BYTES": tf.string,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def datatype(kind: tf.DType) -> str:
    """Returns the protocol's name of a type."""
    return _NAMES[kind]


def metadata(name: str, spec: tf.TensorSpec) -> dict[str, Any]:
    """Returns what the protocol says of a tensor of a signature."""
    shape = [-1 if size is None else size for size in spec.shape]
    return {"name": name, "datatype": datatype(spec.dtype), "shape": shape}


def described(name: str, array: np.ndarray) -> dict[str, Any]:
    """Returns what the protocol says of an array."""
    kind = tf.string if array.dtype == object else tf.as_dtype(array.dtype)
    return {"name": name, "datatype": datatype(kind), "shape": list(array.shape)}


def to_kind(name: str, text: Any) -> tf.DType:
    """Returns the type that a request names.

    Raises:
        ServingError: there is none of that name.
    """
    if text not in _KINDS:
        received = str(text)[:100]
        raise invalid(
            f"{name}'s datatype must be one of {', '.join(_KINDS)}; "
            f"received {received!r}.{nearest(received, _KINDS)}"
        )
    return _KINDS[text]


def from_list(
    name: str, kind: tf.DType, shape: Sequence[int], values: Any, *, flags: bool = False
) -> np.ndarray:
    """Returns the array of values in a list, or in lists in lists.

    Args:
        name: of the tensor, for messages.
        kind: its type.
        shape: its sizes.
        values: of which there must be as many as `shape` says; text or bytes for strings.
        flags: as for `from_values`.

    Raises:
        ServingError: values of another type or number.
    """
    if not isinstance(values, list):
        raise invalid(f"{name}'s data must be a list; received {type(values).__name__}.")
    if kind == tf.string:
        flat = [_encoded(name, one) for one in _flat(values)]
        array = np.empty(len(flat), object)
        array[:] = flat
    else:
        array = from_values(name, values, kind, flags=flags)
    if array.size != math.prod(shape):
        raise _misfit(name, shape, f"{array.size} values")
    return array.reshape(shape)


def from_bytes(name: str, kind: tf.DType, shape: Sequence[int], content: bytes) -> np.ndarray:
    """Returns the array of raw bytes: little endian; strings each behind their length in 4 bytes.

    Raises:
        ServingError: more or fewer bytes than `shape` says.
    """
    if kind == tf.string:
        found = []
        at = 0
        while at + 4 <= len(content):
            (size,) = struct.unpack_from("<I", content, at)
            found.append(content[at + 4 : at + 4 + size])
            at += 4 + size
        if at != len(content) or len(found) != math.prod(shape):
            raise _misfit(name, shape, f"{len(content)} bytes")
        array = np.empty(len(found), object)
        array[:] = found
        return array.reshape(shape)
    if len(content) != math.prod(shape) * kind.size:
        raise _misfit(name, shape, f"{len(content)} bytes")
    return np.frombuffer(content, kind.as_numpy_dtype).reshape(shape)


def to_bytes(array: np.ndarray) -> bytes:
    """Returns an array as raw bytes; see `from_bytes`."""
    if array.dtype != object:
        return array.tobytes()
    return b"".join(struct.pack("<I", len(one)) + one for one in array.ravel().tolist())


def check_shape(name: str, shape: Any) -> list[int]:
    """Returns a tensor's sizes, else raises `ServingError`."""
    if not isinstance(shape, list) or not all(type(one) is int and one >= 0 for one in shape):
        raise invalid(f"{name}'s shape must be a list of sizes; received {str(shape)[:100]}.")
    return shape


def _flat(values: list) -> list:
    return [
        one for value in values for one in (_flat(value) if isinstance(value, list) else [value])
    ]


def _encoded(name: str, value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise invalid(f"{name}'s data must be strings; received {type(value).__name__}.")
    return value.encode("utf-8", "surrogatepass")


def _misfit(name: str, shape: Sequence[int], received: str) -> ServingError:
    return invalid(f"{name} must have the values of shape {list(shape)}; received {received}.")
