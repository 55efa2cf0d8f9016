"""TensorFlow Serving's JSON: requests to arrays, arrays to answers."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from robustcls._validation import nearest
from robustcls.serving.errors import ServingError, invalid
from robustcls.serving.server.signature import Arrays, Signature
from robustcls.serving.tensors import from_values


def parse_body(body: bytes, *keys: str) -> dict[str, Any]:
    """Returns the JSON object of a request.

    Raises:
        ServingError: it is none, or has none of `keys` while it has others; beside one of them,
            keys of another meaning are passed over as by TensorFlow Serving.
    """
    try:
        # What follows the object is passed over, as by TensorFlow Serving.
        value, _ = json.JSONDecoder().raw_decode(body.decode("utf-8-sig").lstrip())
    except (ValueError, RecursionError) as error:
        reason = "too deep" if isinstance(error, RecursionError) else str(error)[:200]
        raise invalid(f"body must be JSON; {reason}.") from None
    if not isinstance(value, dict):
        raise invalid(f"body must be a JSON object; received {type(value).__name__}.")
    known = ("signature_name", *keys)
    for key in value:
        if key not in known and not any(wanted in value for wanted in keys):
            raise invalid(
                f"body must have no keys but {', '.join(known)}; received {key[:100]!r}."
                + nearest(key, known)
            )
    return value


def signature_name(body: Mapping[str, Any]) -> str:
    """Returns the signature that a request names, the empty name if none."""
    name = body.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(f"signature_name must be a string; received {type(name).__name__}.")
    return name


def parse_inputs(
    body: Mapping[str, Any], signature: Signature, *, flags: bool = False
) -> tuple[Arrays, bool]:
    """Returns arrays by name, and whether the answer is wanted by row.

    As in TensorFlow Serving, JSON must have every input of a signature, those with a default
    too.

    Args:
        body: with `instances`, a list of rows, or `inputs`, the columns. Where a signature has a
            single input its values may stand without a name.
        signature: whose inputs they are.
        flags: whether there may be true or false among the values, which NumPy takes for numbers
            (bool, default False).

    Raises:
        ServingError: neither or both, or values of another type or shape.
    """
    if ("instances" in body) == ("inputs" in body):
        raise invalid("body must have either instances or inputs.")
    by_row = "instances" in body
    columns = _columns(body["instances"], signature) if by_row else body["inputs"]
    if not _is_named(columns, signature):
        if len(signature.inputs) != 1:
            raise invalid(f"inputs must be named: {', '.join(sorted(signature.inputs))}.")
        columns = {next(iter(signature.inputs)): columns}
    for name in columns if by_row else ():
        if name not in signature.inputs:
            raise signature.unknown_input(name)
    missing = sorted(set(signature.inputs) - set(columns))
    if missing:
        some = [signature.unknown_input(name) for name in columns if name not in signature.inputs]
        raise some[0] if some else _missing(missing, signature)
    # What else stands among the columns is passed over, as by TensorFlow Serving.
    return {
        name: _array(name, columns[name], signature.inputs[name], flags)
        for name in columns
        if name in signature.inputs
    }, by_row


def _missing(names: list[str], signature: Signature) -> ServingError:
    text = f"inputs of {signature.name} must have {', '.join(names)}; received none."
    values = {
        name: signature.defaults[name].tolist()[0] for name in names if name in signature.defaults
    }
    if values:
        said = ", ".join(f"{name} {value}" for name, value in values.items())
        text += f" JSON has no defaults, of which gRPC takes {said}."
    return invalid(text)


def parse_examples(body: Mapping[str, Any]) -> Arrays:
    """Returns the input of a Classify signature from `examples`, objects by feature.

    Args:
        body: with `examples`; the features of `context`, where there are some, are those of each.

    Raises:
        ServingError: no list of objects, or features that no Example can hold.
    """
    examples = body.get("examples")
    if not isinstance(examples, list) or not examples:
        raise invalid("examples must be a list of objects; received none.")
    context = _example(body.get("context", {}))
    rows = [context + _example(example) for example in examples]
    return {"inputs": np.array(rows, object)}


def _example(features: Any) -> bytes:
    """Returns a serialized `tf.train.Example`; two in a row are one with the features of both."""
    if not isinstance(features, dict):
        raise invalid(f"examples must be objects; received {type(features).__name__}.")
    proto = tf.train.Example()
    for name, value in features.items():
        values = value if isinstance(value, list) else [value]
        feature = proto.features.feature[name]
        try:
            if all(isinstance(one, int) for one in values):
                feature.int64_list.value.extend(values)
            elif all(isinstance(one, float) for one in values):
                feature.float_list.value.extend(values)
            else:
                feature.bytes_list.value.extend([_bytes(name, one) for one in values])
        except ValueError:  # an integer beyond 64 bits
            raise invalid(f"{name[:100]} must hold integers of 64 bits.") from None
    return proto.SerializeToString()


def format_outputs(outputs: Arrays, by_row: bool) -> bytes:
    """Returns the answer to `instances` or `inputs`."""
    columns = {name: _plain(name, value) for name, value in outputs.items()}
    answer: Any = columns
    if len(columns) == 1:
        answer = next(iter(columns.values()))
    elif by_row:
        answer = [
            dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
        ]
    return json.dumps({"predictions" if by_row else "outputs": answer}).encode()


def format_classes(outputs: Arrays) -> bytes:
    """Returns the answer to a Classify request: for each row its labels with scores."""
    results = [
        [[label.decode(), score] for label, score in zip(labels, scores, strict=True)]
        for labels, scores in zip(
            outputs["classes"].tolist(), outputs["scores"].tolist(), strict=True
        )
    ]
    return json.dumps({"results": results}).encode()


def _columns(rows: Any, signature: Signature) -> Any:
    if not isinstance(rows, list) or not rows:
        raise invalid("instances must be a list of rows; received none.")
    if not all(_is_named(row, signature) for row in rows):
        return rows
    names = set(rows[0])
    if any(set(row) != names for row in rows):
        raise invalid("instances must all have the same names.")
    return {name: [row[name] for row in rows] for name in rows[0]}


def _is_named(value: Any, signature: Signature) -> bool:
    """Whether an object holds inputs by name, and is not the bytes of a single string."""
    return isinstance(value, dict) and (set(value) != {"b64"} or "b64" in signature.inputs)


def _array(name: str, value: Any, spec: tf.TensorSpec, flags: bool) -> np.ndarray:
    if spec.dtype == tf.string:
        if not isinstance(value, list):
            raise invalid(f"{name} must be a list of strings; received {type(value).__name__}.")
        array = np.empty(len(value), object)
        array[:] = [_bytes(name, one) for one in value]
        return array
    return from_values(name, value, spec.dtype, flags=flags)


def _bytes(name: str, value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str):
        try:
            # White space counts for nothing, and the padding may be left out.
            text = "".join(value["b64"].split()).rstrip("=")
            return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except (binascii.Error, ValueError):
            raise invalid(f"{name} must be base64 in b64; received something else.") from None
    raise invalid(f'{name} must be strings or objects {{"b64": ...}}; received another value.')


def _plain(name: str, array: np.ndarray) -> list:
    if array.dtype != object:
        return array.tolist()

    def convert(value: Any) -> Any:
        if isinstance(value, list):
            return [convert(one) for one in value]
        if name.endswith("_bytes"):
            return {"b64": base64.b64encode(value).decode()}
        return value.decode("utf-8", "replace")

    return convert(array.tolist())
