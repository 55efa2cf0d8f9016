"""A run's detector as a SavedModel, alone or in front of a classifier."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from anomaly.experiments.runs import open_tested
from robustcls._validation import InputError
from robustcls.data.splits import Splits
from robustcls.files import read_sealed
from robustcls.runs import METRICS, Run
from robustcls.serving.optional_packages import require_serving


def export_detector(
    run: Run | Path | str,
    out: Path | str | None = None,
    *,
    name: str | None = None,
    version: int | None = None,
) -> Path:
    """Writes a run's detector as a SavedModel, with the run's figures on its card.

    Args:
        run: a run or its folder.
        out: the model's folder; `export/` in the run by default.
        name: the detector's name in requests; the run's by default.
        version: its number; None takes the next.

    Returns:
        The folder of the version.

    Raises:
        InputError: there is no run or no trained detector, the images have changed since, the
            version exists, or `out` cannot be written.
    """
    require_serving()
    from anomaly.detection.exporting import write_detector
    from robustcls.serving.exports.configuration import usable_name
    from robustcls.serving.exports.exporting import sample

    run, detector, splits, test = open_tested(run)
    return write_detector(
        detector,
        run.path / "export" if out is None else out,
        images=sample(test),
        name=name or usable_name(run.path.resolve().name),
        version=version,
        card=card_of(run, splits),
    )


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
    require_serving()
    from anomaly.detection.exporting import detector_servable
    from anomaly.serving.gate import gate_card, gate_rows, gate_servable
    from robustcls.serving.exports.classifier_servable import classifier_servable
    from robustcls.serving.exports.configuration import usable_name
    from robustcls.serving.exports.exporting import open_run, sample
    from robustcls.serving.exports.samples import COUNT
    from robustcls.serving.exports.servable import write_export

    run, detector, splits, test = open_tested(detector_run)
    classifier, images, facts = open_run(Run.open(classifier_run), model)
    if images.image_shape != detector.image_shape:
        raise InputError(
            "classifier must take images of the detector's shape, "
            f"{list(detector.image_shape)}; received {list(images.image_shape)}."
        )
    half = COUNT // 2
    samples = np.concatenate(
        [sample(test, COUNT - half), sample(images.test, half)]
    )  # of the detector's test split and of the classifier's
    rows = gate_rows(detector, classifier, images.test)
    card = gate_card(card_of(run, splits), facts, rows)
    with tempfile.TemporaryDirectory() as folder:
        servable = gate_servable(
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


def card_of(run: Run, splits: Splits) -> dict[str, Any]:
    """Returns fields of `ModelCard` for a run: data, metrics, config."""
    from robustcls.serving.exports.model_card import metric_row

    metrics = read_sealed(run.path / METRICS) if (run.path / METRICS).is_file() else {}
    rows = []
    if metrics:
        # A folder of normal images alone gives no more than a share of false alarms.
        rates = {"false alarms": "false_alarm_rate", "anomalies found": "detection_rate"}
        figures = ("auroc", "aupr", "f1", "pixel_auroc", "aupro", "mask_iou", "box_iou")
        rows = [metric_row(key, metrics[key], None) for key in figures if key in metrics]
        rows += [
            metric_row(key, metrics[of]["got"], metrics[of])
            for key, of in rates.items()
            if of in metrics
        ]
    data = {
        "source": splits.source,
        "fingerprint": splits.fingerprint,
        "normal class": run.config["data"]["normal_class"],
    }
    return {"data": data, "metrics": tuple(rows), "config": run.config["detector"]}
