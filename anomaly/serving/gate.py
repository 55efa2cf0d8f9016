"""A detector in front of a classifier, as one SavedModel."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from anomaly.detection.detector import OneClassDetector
from anomaly.experiments.runs import open_detector_run
from anomaly.serving.exporting import detector_servable
from anomaly.serving.run_export import card_of
from robustcls._validation import InputError
from robustcls.data.splits import Split
from robustcls.evaluation.intervals import measurement
from robustcls.runs import Run
from robustcls.serving.exports.cases import Case
from robustcls.serving.exports.classifier_servable import classifier_servable
from robustcls.serving.exports.configuration import usable_name
from robustcls.serving.exports.endpoints import Endpoint, Outputs, image_endpoints
from robustcls.serving.exports.exporting import open_run, sample
from robustcls.serving.exports.model_card import metric_row
from robustcls.serving.exports.samples import COUNT
from robustcls.serving.exports.servable import Servable, write_export

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


def export_gate(
    detector_run: Run | Path | str,
    classifier_run: Run | Path | str,
    out: Path | str | None = None,
    *,
    model: str | None = None,
    name: str | None = None,
    version: int | None = None,
) -> Path:
    """Exports a run's detector in front of another run's classifier.

    Signatures: `serving_default` and `serving_bytes` (all that both answer, and
    `accepted_class`), `explain` of the classifier, and `score`, `detect`, `anomaly_map` and
    `boxes` of the detector. The card says how many of the classifier's test images the detector
    refuses, and how many of the others are classified right.

    Args:
        detector_run: a run of `anomaly train`, or its folder.
        classifier_run: a run of `robustcls train`, or its folder; of images of the same shape.
        out: the model's folder; `export-gate/` in the detector's run by default.
        model: base or adversarial; by default adversarial where it was trained.
        name: the model's name in requests; the detector run's by default.
        version: its number; None takes the next.

    Returns:
        The folder of the version.

    Raises:
        InputError: as for `export_detector` and `export_run`, or images of different shapes.
    """
    run, detector, splits, parts = open_detector_run(detector_run)
    classifier, images, facts = open_run(Run.open(classifier_run), model)
    if images.image_shape != detector.image_shape:
        raise InputError(
            "classifier must take images of the detector's shape, "
            f"{list(detector.image_shape)}; received {list(images.image_shape)}."
        )
    half = COUNT // 2
    samples = np.concatenate(
        [sample(parts.test, COUNT - half), sample(images.test, half)]
    )  # of the detector's test split and of the classifier's
    rows = _measured(detector, classifier, images.test)
    card = _card(card_of(run, splits), facts, rows)
    with tempfile.TemporaryDirectory() as folder:
        servable = _gate(
            detector_servable(detector, samples, {}),
            classifier_servable(
                classifier,
                Path(folder),
                class_names=images.class_names,
                images=samples,
                card=card,
            ),
            detector.image_shape,
        )
        return write_export(
            servable,
            run.path / "export-gate" if out is None else out,
            name=name or usable_name(run.path.resolve().name),
            version=version,
        )


def _gate(first: Servable, second: Servable, image_shape: tuple[int, int, int]) -> Servable:
    """Returns a detector and a classifier as one."""
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


def _measured(
    detector: OneClassDetector, classifier: keras.Model, test: Split
) -> tuple[dict[str, Any], ...]:
    """Rows of the card: what the gate does to the classifier's test images."""
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


def _card(
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
