"""Loads a SavedModel and answers its cases: a script for a process that has only TensorFlow.

    python -I fresh_process.py VERSION_FOLDER CASES WARMUP_FOLDER ANSWERS TOLERANCE

Keras, which TensorFlow imports by itself, and robustcls are put out of reach before the SavedModel
is loaded, so it shows that a server needs neither.
"""

from __future__ import annotations

import json
import os
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf

BARRED = ("keras", "tf_keras", "robustcls")
#: A resized pixel may be the neighbouring one of 255 levels.
LEVEL = 1 / 255 + 1e-6
_KINDS = (tf.float32, tf.int64, tf.bool, tf.string)


def main(folder: str, cases: str, warmup: str, answers: str, tolerance: str) -> None:
    """Writes the checks as JSON to `answers`."""
    for name in [name for name in sys.modules if name.split(".")[0] in BARRED]:
        del sys.modules[name]
    for name in BARRED:
        sys.modules[name] = None  # type: ignore[assignment]  # makes an import fail
    loaded = tf.saved_model.load(folder)  # kept, or its variables go
    signatures = loaded.signatures
    tested = read_cases(Path(folder) / cases)
    checks = [check_signatures(signatures, tested)]
    for name, (inputs, expected) in tested.items():
        if name in signatures:
            checks += check_case(name, signatures[name], inputs, expected, float(tolerance))
    checks.append(check_warmup(signatures, Path(warmup)))
    reached = [name for name in BARRED if sys.modules.get(name) is not None]
    detail = f"loaded {', '.join(reached)}" if reached else "without Keras and robustcls"
    checks.append({"check": "process", "passed": not reached, "detail": detail})
    Path(answers).write_text(json.dumps(checks), encoding="utf-8")


def read_cases(path: Path) -> dict[str, Any]:
    """Returns (inputs, outputs) by signature."""
    found: dict[str, Any] = defaultdict(lambda: ({}, {}))
    with np.load(path, allow_pickle=False) as arrays:
        for key in arrays.files:
            signature, side, name = key.split("/")
            found[signature][side == "outputs"][name] = arrays[key]
    return dict(found)


def check_signatures(signatures: Any, tested: dict[str, Any]) -> dict[str, Any]:
    """All signatures are there and tested, with named tensors of plain types and free batches."""
    wrong = []
    for name in sorted(set(signatures) ^ set(tested)):
        wrong.append(f"{name} is {'untested' if name in signatures else 'missing'}")
    for name, function in signatures.items():
        _, inputs = function.structured_input_signature
        for key, spec in {**inputs, **function.structured_outputs}.items():
            if key.startswith(("output_", "keras_tensor", "args_")):
                wrong.append(f"{name} has {key} without a name")
            if spec.dtype not in _KINDS or spec.shape.rank == 0 or spec.shape[0] is not None:
                wrong.append(f"{name} has {key} {spec.dtype.name} {spec.shape}")
    detail = "; ".join(wrong) or ", ".join(sorted(signatures))
    return {"check": "signatures", "passed": not wrong, "detail": detail}


def check_case(
    name: str, function: Any, inputs: Any, expected: Any, tolerance: float
) -> list[dict[str, Any]]:
    """The answers are the model's, do not depend on the batch, vary, and come again the same."""
    count = len(next(iter(inputs.values())))
    odd = min(7, count)
    whole = call(function, inputs)
    parts = [call(function, rows(inputs, n, n + 1)) for n in range(min(3, count))]
    parts.append(call(function, rows(inputs, count - odd, count)))
    same = call(function, inputs)
    allowed = LEVEL if name == "decode" else tolerance
    checks = [
        verdict(f"{name}: {key}", [(whole.get(key), value)], allowed)
        for key, value in expected.items()
    ]
    slices = [(n, n + 1) for n in range(min(3, count))] + [(count - odd, count)]
    pairs = [
        (part[key], whole[key][first:last])
        for part, (first, last) in zip(parts, slices, strict=True)
        for key in whole
    ]
    checks.append(verdict(f"{name}: batches of 1, {odd} and {count}", pairs, tolerance))
    twice = all(np.array_equal(same[key], whole[key]) for key in whole)
    checks.append({"check": f"{name}: twice the same", "passed": twice, "detail": ""})
    varying = [key for key, value in whole.items() if (value != value[:1]).any()]
    detail = f"{', '.join(varying) or 'nothing'} from image to image"
    return [*checks, {"check": f"{name}: varies", "passed": bool(varying), "detail": detail}]


def check_warmup(signatures: Any, folder: Path) -> dict[str, Any]:
    """Every warm-up request gets an answer."""
    names_file = folder / "signatures.json"
    if not names_file.is_file():
        return {"check": "warm-up replay", "passed": False, "detail": "no requests"}
    for place, name in enumerate(json.loads(names_file.read_text())):
        with np.load(folder / f"{place}.npz", allow_pickle=False) as inputs:
            try:
                call(signatures[name], dict(inputs))
            except (KeyError, TypeError, ValueError, tf.errors.OpError) as error:
                detail = f"{name}: {type(error).__name__}"
                return {"check": "warm-up replay", "passed": False, "detail": detail}
    return {"check": "warm-up replay", "passed": True, "detail": "every request was answered"}


def call(function: Any, inputs: Any) -> dict[str, np.ndarray]:
    """Returns the outputs as arrays."""
    outputs = function(**{key: tf.constant(value) for key, value in inputs.items()})
    return {key: value.numpy() for key, value in outputs.items()}


def rows(arrays: Any, first: int, last: int) -> dict[str, np.ndarray]:
    """Returns some rows of every array."""
    return {key: value[first:last] for key, value in arrays.items()}


def verdict(check: str, pairs: list, tolerance: float) -> dict[str, Any]:
    """Compares pairs (received, expected) of arrays."""
    worst, equal = 0.0, True
    for received, expected in pairs:
        if received is None or received.shape != expected.shape:
            return {"check": check, "passed": False, "detail": "missing or of another shape"}
        if received.dtype.kind == "f":
            scale = max(1.0, float(np.max(np.abs(expected))))
            difference = np.max(np.abs(received.astype(np.float64) - expected)) / scale
            worst = max(worst, float(np.nan_to_num(difference, nan=np.inf)))
        else:
            equal &= bool(np.array_equal(received.astype(expected.dtype), expected))
    passed = equal and worst <= tolerance
    detail = f"largest difference {worst:.1e}" if equal else "different values"
    return {"check": check, "passed": passed, "detail": detail}


if __name__ == "__main__":
    main(*sys.argv[1:])
