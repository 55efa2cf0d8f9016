"""What a smaller or converted model loses and gains: measured beside float32."""

from __future__ import annotations

import os
import platform
import statistics
import time
from typing import Any

import keras
import numpy as np

from robustcls.data.splits import Split
from robustcls.evaluation.intervals import measurement
from robustcls.serving.conversion_robustness import (
    CHANGES,
    IMAGES,
    Predict,
    as_figure,
    classes_of,
    robustness,
)

COMPARISON = "comparison.json"
_BATCHES = (1, 32)
_SECONDS = 1.0
_ROUNDS = 5


def compare(
    format: str,
    converted: Predict,
    reference: Predict,
    split: Split,
    megabytes: dict[str, float],
    network: keras.Model,
) -> dict[str, Any]:
    """Measures a converted classifier beside the one that it was made from.

    Args:
        format: what the converted one is called.
        converted: the converted one.
        reference: the float32 model.
        split: the images to measure on.
        megabytes: of weights or file, under "float32" and under `format`.
        network: the float32 model as a network, whose gradients PGD follows.

    Returns:
        For "float32" and `format`: `accuracy` with its interval, that under what `changed_by`
        lists, `milliseconds` by batch size (the median of calls that take turns), `megabytes`; and
        `same_class`, the share of images that get the same class from both.
    """
    both = {"float32": reference, format: converted}
    classes = {name: classes_of(predict, split.float_images()) for name, predict in both.items()}
    rows: dict[str, Any] = {}
    for name, found in classes.items():
        right = measurement(name, int((found == split.labels).sum()), len(split))
        rows[name] = {
            "accuracy": as_figure(right),
            "milliseconds": {},
            "megabytes": megabytes[name],
        }
    for size in _BATCHES:
        for name, value in _milliseconds(both, split.take(slice(size)).float_images()).items():
            rows[name]["milliseconds"][str(size)] = value
    changed = robustness(network, both, split)
    for name, figures in changed.items():
        rows[name] |= figures
    return {
        "format": format,
        "images": len(split),
        "changed_images": min(IMAGES, len(split)),
        "changed_by": CHANGES,
        "measured": rows,
        "same_class": float(np.mean(classes["float32"] == classes[format])),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def weights_megabytes(model: Any) -> float:
    """Returns the size of a model's weights as float32."""
    return 4 * model.count_params() / 1e6


def _milliseconds(calls: dict[str, Predict], images: np.ndarray) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    for predict in calls.values():
        predict(images)
    for _ in range(_ROUNDS):
        for name, predict in calls.items():
            end = time.perf_counter() + _SECONDS / _ROUNDS
            while True:
                started = time.perf_counter()
                predict(images)
                times[name].append(time.perf_counter() - started)
                if time.perf_counter() >= end:
                    break
    return {name: 1000 * statistics.median(values) for name, values in times.items()}
