"""`report/anomaly.html`: what a detector learned and where it errs, in one file."""

from __future__ import annotations

import base64
import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from anomaly.detection.detector import OneClassDetector
from anomaly.reports.pictures import draw_image_rows, draw_projection, draw_scores, draw_training
from anomaly.reports.report import write_image_gallery
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
) -> Path:
    """Writes `report/anomaly.html` into a run: one file that opens without a network.

    Where the detector makes maps, `report/images.html` shows them (`write_image_gallery`).

    Args:
        run: of `train_detector`.
        detector: its detector.
        test: the test split, labels 0 normal and 1 anomaly.
        scores: the detector's, float32 [N].
        metrics: what `evaluate_detector` measured.

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
        figures=table_lines(metrics),
        findings=metrics["findings"],
        pictures=pictures,
        settings=json.dumps(run.config["detector"], indent=2),
    )
    if detector.makes_maps:
        write_image_gallery(run, detector, test, scores)
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
        if not len(chosen):
            continue
        images = test.take(chosen).float_images()
        view = detector.view_images(images)
        shown = {"image": images, **view.pictures}
        caption = f"Above each image its score; red where it is an alarm. {view.note}".strip()
        figure = draw_image_rows(shown, scores[chosen], detector.threshold, view.boxes)
        pictures.append(Picture.of(title, caption, figure))
    return pictures


def _latent(detector: OneClassDetector, test: Split) -> list[Picture]:
    step = max(1, len(test) // _PROJECTED)
    chosen = test.take(slice(None, None, step))
    normal = chosen.labels == 0
    view = detector.view_features(chosen.float_images(), normal)
    labels = np.repeat(chosen.labels, len(view.points) // len(chosen))
    center, axes = principal_axes(view.points[labels == 0])
    points = (view.points - center) @ axes
    items = None if view.landmarks is None else (view.landmarks - center) @ axes
    caption = "The first two principal components of the features, fitted to normal images."
    figure = draw_projection(points, labels, items)
    return [Picture.of("Features", f"{caption} {view.note}".strip(), figure)]


def principal_axes(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean [D] and the first two principal axes [D, 2] of features [N, D]."""
    center = features.mean(0)
    _, _, axes = np.linalg.svd(features - center, full_matrices=False)
    return center, axes[:2].T


def print_evaluation(metrics: dict[str, Any], console: Console | None = None) -> None:
    """Prints the figures of `metrics`, rates with their 95 % intervals."""
    table = Table(title=f"{metrics['method']}, normal: {metrics['normal_class']}; figures in %")
    table.add_column("on the test split")
    table.add_column("measured", justify="right")
    table.add_column("beside it")
    for line in table_lines(metrics):
        table.add_row(*line)
    console = console or Console()
    console.print(table)
    for words in metrics["findings"]:
        console.print(f"Mind: {words}", highlight=False, markup=False)


def table_lines(metrics: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Returns name, value in % and remark of each figure of `evaluate_detector`."""
    lines = []
    if "auroc" in metrics:
        share = 100 * metrics["anomaly_share"]
        lines = [
            ("AUROC", f"{100 * metrics['auroc']:.1f}", "chance 50.0"),
            ("AUPR", f"{100 * metrics['aupr']:.1f}", f"chance {share:.1f}"),
            ("F1", f"{100 * metrics['f1']:.1f}", f"threshold {metrics['threshold']:.4g}"),
        ]
    if "mean_image_auroc" in metrics:
        control = f"{100 * metrics['mean_image_auroc']:.1f}"
        lines.append(("AUROC of a control", control, "distance to the mean normal image"))
    if "aupro" in metrics:
        count = f"{metrics['images_with_masks']} masks"
        lines.append(("AUROC of pixels", f"{100 * metrics['pixel_auroc']:.1f}", count))
        lines.append(("AUPRO", f"{100 * metrics['aupro']:.1f}", "up to 30 % false pixels"))
    alarms, found = metrics["false_alarm_rate"], metrics.get("detection_rate")
    lines.append(("false alarms", _rate(alarms), f"asked {100 * alarms['asked']:g}"))
    if found is None:
        lines.append(("anomalies found", "not measured", "no anomaly among the test images"))
    else:
        lines.append(("anomalies found", _rate(found), f"of {found['count']}"))
    return lines


def _rate(rate: dict[str, float]) -> str:
    return f"{100 * rate['got']:.1f} [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]"
