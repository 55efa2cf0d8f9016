"""`report/anomaly.html`: what a detector learned and where it errs, in one file."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from matplotlib.figure import Figure

from anomaly.detection.detector import OneClassDetector
from anomaly.detection.reconstruction import ReconstructionDetector
from anomaly.memae.detector import MemAE
from anomaly.reports.pictures import draw_image_rows, draw_projection, draw_scores, draw_training
from robustcls.data.splits import Split
from robustcls.runs import Run, write_text

_SHOWN = 8
_PROJECTED = 600


@dataclass(frozen=True)
class Picture:
    """A figure of the report.

    Attributes:
        title: its heading and alternative text.
        caption: what there is to see.
        data: a PNG in base64.
    """

    title: str
    caption: str
    data: str

    @classmethod
    def of(cls, title: str, caption: str, figure: Figure) -> Picture:
        stream = io.BytesIO()
        figure.savefig(stream, format="png")
        return cls(title, caption, base64.b64encode(stream.getvalue()).decode())


def write_overview(
    run: Run,
    detector: OneClassDetector,
    test: Split,
    scores: np.ndarray,
    metrics: dict[str, Any],
    figures: Sequence[tuple[str, str, str]],
) -> Path:
    """Writes `report/anomaly.html` into a run: one file that opens without a network.

    Args:
        run: of `train_detector`.
        detector: its detector.
        test: the test split, labels 0 normal and 1 anomaly.
        scores: the detector's, float32 [N].
        metrics: what `evaluate_detector` measured.
        figures: name, value and remark of each line of its table.

    Returns:
        The path of the report.
    """
    template = jinja2.Environment(
        loader=jinja2.PackageLoader("anomaly.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    ).get_template("anomaly.html")
    pictures = [
        Picture.of(
            "Scores",
            "How far images of each kind score; what lies right of the line is an alarm.",
            draw_scores(scores, test.labels, detector.threshold),
        ),
        *_training(run),
        *_errors(detector, test, scores),
        *_latent(detector, test),
    ]
    path = run.path / "report" / "anomaly.html"
    text = template.render(
        title=f"{metrics['method']}, normal: {metrics['normal_class']}",
        source=run.config["data"]["source"],
        figures=figures,
        pictures=pictures,
        settings=json.dumps(run.config["detector"], indent=2),
    )
    write_text(path, text)
    return path


def _training(run: Run) -> list[Picture]:
    curves = {}
    for path in sorted((run.path / "training").glob("*/history.csv")):
        with path.open(encoding="utf-8") as file:
            rows = [
                {key: float(value) for key, value in row.items()} for row in csv.DictReader(file)
            ]
        curves[path.parent.name] = {
            key: [row[key] for row in rows] for key in rows[0] if key != "epoch"
        }
    if not curves:
        return []
    caption = (
        "What each stage logged after its epochs; val_ is on normal images kept from training."
    )
    return [Picture.of("Training", caption, draw_training(curves))]


def _errors(detector: OneClassDetector, test: Split, scores: np.ndarray) -> list[Picture]:
    """The images that make the test figures what they are, and what the detector sees in them."""
    order = np.argsort(scores, kind="stable")
    normal, anomalous = (order[test.labels[order] == kind] for kind in (0, 1))
    rows = (
        ("Most normal of the normal images", normal[:_SHOWN]),
        ("Least normal of the normal images", normal[::-1][:_SHOWN]),
        ("Most anomalous of the anomalies", anomalous[::-1][:_SHOWN]),
        ("Least anomalous of the anomalies", anomalous[:_SHOWN]),
    )
    pictures = []
    for title, chosen in rows:
        images = test.take(chosen).float_images()
        shown = {"image": images}
        caption = "Above each image its score; red where it is an alarm."
        if isinstance(detector, ReconstructionDetector):
            shown["reconstruction"] = np.clip(detector.reconstruct(images), 0, 1)
            shown["map"] = detector.anomaly_map(images)[..., None]
            caption += " Boxes are where the smoothed map is above the pixel threshold."
        boxes = detector.boxes(images) if isinstance(detector, ReconstructionDetector) else None
        figure = draw_image_rows(shown, scores[chosen], detector.threshold, boxes)
        pictures.append(Picture.of(title, caption, figure))
    return pictures


def _latent(detector: OneClassDetector, test: Split) -> list[Picture]:
    step = max(1, len(test) // _PROJECTED)
    chosen = test.take(slice(None, None, step))
    features, labels = detector.encode(chosen.float_images()), chosen.labels
    memory = None
    caption = "The first two principal components of the features, fitted to normal images."
    if isinstance(detector, MemAE):
        memory = detector.memory
        # Where each position is a query, so is each point.
        queries = features.reshape(-1, memory.shape[1])
        labels = np.repeat(labels, len(queries) // len(labels))
        features = queries
        usage = detector.memory_usage(chosen.float_images()[labels[: len(chosen)] == 0])
        caption += (
            f" Crosses are the memory's items: normal images read {usage['used_items']} of "
            f"{len(memory)}, {usage['effective_items']:.1f} of them in effect; the entropy of an "
            f"address is {usage['entropy']:.2f} nats."
        )
    center, axes = principal_axes(features[labels == 0])
    points = (features - center) @ axes
    items = None if memory is None else (memory - center) @ axes
    return [Picture.of("Features", caption, draw_projection(points, labels, items))]


def principal_axes(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean [D] and the first two principal axes [D, 2] of features [N, D]."""
    center = features.mean(0)
    _, _, axes = np.linalg.svd(features - center, full_matrices=False)
    return center, axes[:2].T
