"""A detector in front of a classifier, as one servable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from anomaly.detection.detector import OneClassDetector
from robustcls.data.splits import Split
from robustcls.evaluation.intervals import measurement
from robustcls.serving.exports.cases import Case
from robustcls.serving.exports.endpoints import Endpoint, Outputs, image_endpoints
from robustcls.serving.exports.model_card import metric_row
from robustcls.serving.exports.servable import Servable

#: The class of an image that the detector refuses.
REFUSED = -1
_USE = (
    "One image in; the detector says whether it is like the normal images, and the classifier "
    "which class it has. `accepted_class` holds both.",
    "Images are float32 [N, H, W, C] in [0, 1], or JPEG and PNG files of any size.",
)
_ACCEPTED = f"the class, or {REFUSED} for an image that the detector finds anomalous"
# Its answer, labels with scores, has no word for a refusal.
_UNGATED = "classify"


def gate_servable(first: Servable, second: Servable, image_shape: tuple[int, int, int]) -> Servable:
    """Returns a detector and a classifier as one.

    Args:
        first: of `detector_servable`.
        second: of `classifier_servable`, for the same images.
        image_shape: (height, width, channels).
    """
    detect = _function(first, "serving_default")
    classify = _function(second, "serving_default")

    def serve(images: tf.Tensor) -> Outputs:
        verdict, answer = detect(images), classify(images)
        refused = tf.constant(REFUSED, tf.int64)
        accepted = tf.where(verdict["is_anomaly"], refused, answer["classes"])
        return {**verdict, **answer, "accepted_class": accepted}

    shared = image_endpoints(serve, image_shape)
    taken = {endpoint.name for endpoint in shared} | {_UNGATED}
    own = [one for one in (*first.endpoints, *second.endpoints) if one.name not in taken]
    cases = {**first.cases, **second.cases}
    del cases[_UNGATED]
    for signature in ("serving_default", "serving_bytes"):
        verdict, answer = first.cases[signature].outputs, second.cases[signature].outputs
        accepted = np.where(verdict["is_anomaly"], REFUSED, answer["classes"])
        outputs = {**verdict, **answer, "accepted_class": accepted.astype(np.int64)}
        cases[signature] = Case(second.cases[signature].inputs, outputs)
    card = replace(
        second.card,
        use=_USE,
        meanings={**first.card.meanings, **second.card.meanings, "accepted_class": _ACCEPTED},
        limits=(*first.card.limits, *second.card.limits),
    )
    tables = (*first.tables, *second.tables)
    return Servable(endpoints=(*shared, *own), tables=tables, cases=cases, card=card)


def _function(servable: Servable, name: str) -> Any:
    endpoint: Endpoint = next(one for one in servable.endpoints if one.name == name)
    return endpoint.function


def gate_rows(
    detector: OneClassDetector, classifier: keras.Model, test: Split
) -> tuple[dict[str, Any], ...]:
    """Returns rows of the card: what the gate does to the classifier's test images."""
    refused, right = [], []
    for start in range(0, len(test), 256):
        part = test.take(slice(start, start + 256))
        refused.append(detector.predict(part.float_images()))
        logits = classifier.predict_on_batch(part.float_images())
        right.append(logits.argmax(-1) == part.labels)
    stopped, correct = np.concatenate(refused), np.concatenate(right)
    passed = int((~stopped).sum())
    found = {"gate: classifier's test images refused": (int(stopped.sum()), len(test))}
    if passed:
        found["gate: accuracy on those accepted"] = (int((correct & ~stopped).sum()), passed)
    rows = []
    for name, (hits, count) in found.items():
        share = measurement(name, hits, count)
        interval = {"low": share.low, "high": share.high, "count": count}
        rows.append(metric_row(name, share.accuracy, interval))
    return tuple(rows)


def gate_card(
    detector: Mapping[str, Any], classifier: Mapping[str, Any], rows: tuple[dict[str, Any], ...]
) -> dict[str, Any]:
    """Returns the fields of the card, those of both with their part's name before them."""
    both = {"detector": detector, "classifier": classifier}
    return {
        "summary": f"A detector of anomalies in front of a classifier. {classifier['summary']}",
        "data": {
            f"{part}: {key}": value
            for part, card in both.items()
            for key, value in card["data"].items()
        },
        "metrics": rows
        + tuple(
            {**row, "name": f"{part}: {row['name']}"}
            for part, card in both.items()
            for row in card["metrics"]
        ),
        "config": {part: card["config"] for part, card in both.items()},
    }
