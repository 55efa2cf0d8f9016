"""`report/anomaly.html`: what a detector learned and where it errs, in one file."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from anomaly.detection.detector import OneClassDetector
from anomaly.localization.boxes import Box
from anomaly.reports.pictures import draw_projection
from anomaly.reports.report import write_image_gallery
from robustcls._notebook import Brief, Briefly
from robustcls.data.splits import Split
from robustcls.plots.curves import histories, training_curves
from robustcls.plots.scores import score_histogram
from robustcls.reports.evaluations import LINKS, link_pages
from robustcls.reports.html import page_template
from robustcls.reports.pictures import HEAT, data_uri, outline, to_colours, to_pixels
from robustcls.runs import Run, write_text

_SHOWN = 8
_PROJECTED = 600
# Of one picture, so that a page stays small.
_MOST_BYTES = 20_000


@dataclass(frozen=True)
class Picture:
    """A figure of the report.

    Attributes:
        title: its heading and alternative text.
        caption: what there is to see.
        address: a PNG as a `data:` address.
    """

    title: str
    caption: str
    address: str

    @classmethod
    def of(cls, title: str, caption: str, figure: Figure) -> Picture:
        stream = io.BytesIO()
        figure.savefig(stream, format="png")
        packed = base64.b64encode(stream.getvalue()).decode()
        return cls(title, caption, f"data:image/png;base64,{packed}")


class DetectorMetrics(Briefly, dict[str, Any]):
    """The figures of `evaluate_detector`, as `metrics.json` holds them.

    Args:
        values: the figures.
        page: that shows them.
    """

    def __init__(self, values: Mapping[str, Any], page: Path) -> None:
        super().__init__(values)
        self._page = page

    def brief(self) -> Brief:
        lines = table_lines(self)
        first = f"{lines[0][0]} {lines[0][1]} %"
        line = f"{self['method']}, normal: {self['normal_class']}; {first}"
        return Brief(line, ("figure", "in %", ""), lines, self._page)


def write_overview(
    run: Run,
    detector: OneClassDetector,
    test: Split,
    scores: np.ndarray,
    metrics: dict[str, Any],
    folder: Path | None = None,
) -> DetectorMetrics:
    """Writes `report/anomaly.html` into a run: one file that opens without a network.

    Where the detector makes maps, `report/images.html` shows them (`write_image_gallery`).

    Args:
        run: of `train_detector`.
        detector: its detector.
        test: the test split, labels 0 normal and 1 anomaly.
        scores: the detector's, float32 [N].
        metrics: what `evaluate_detector` measured.
        folder: of the evaluation; the run's if None.

    Returns:
        The figures, with the path of the report.
    """
    folder = run.path if folder is None else folder
    if detector.makes_maps:
        write_image_gallery(run, detector, test, scores, folder)
    template = page_template("anomaly.html", "anomaly.reports", "robustcls.reports")
    histogram = score_histogram(scores, test.labels, detector.threshold)
    errors, note = _errors(detector, test, scores)
    path = folder / "report" / "anomaly.html"
    text = template.render(
        title=f"{metrics['method']}, normal: {metrics['normal_class']}",
        links=LINKS,
        source=run.config["data"]["source"],
        figures=table_lines(metrics),
        findings=metrics["findings"],
        scores=Picture.of(
            "Scores",
            "How far images of each kind score; what lies right of the line is an alarm.",
            histogram,
        ),
        errors=errors,
        note=note,
        training=_training(run),
        features=_latent(detector, test),
        settings=json.dumps(run.config["detector"], indent=2),
    )
    write_text(path, text)
    link_pages(folder)
    return DetectorMetrics(metrics, path)


def _training(run: Run) -> list[Picture]:
    """A figure for each quantity of each stage."""
    folder = run.path / "training"
    if not any(folder.glob("*/history.csv")):
        return []
    pictures = []
    for stage, logged in histories(folder).items():
        for name in dict.fromkeys(key.removeprefix("val_") for key in logged):
            chosen = {key: logged[key] for key in (name, f"val_{name}") if logged.get(key)}
            title = f"{stage}: {name}"
            pictures.append(Picture.of(title, "", training_curves(chosen)))
    return pictures


def _errors(
    detector: OneClassDetector, test: Split, scores: np.ndarray
) -> tuple[list[tuple[str, list[dict[str, Any]]]], str]:
    """The images that make the test figures what they are, and what the detector sees in them."""
    order = np.argsort(scores, kind="stable")
    normal, anomalous = (order[test.labels[order] == kind] for kind in (0, 1))
    rows = (
        ("Most normal of the normal images", normal[:_SHOWN]),
        ("Least normal of the normal images", normal[::-1][:_SHOWN]),
        ("Most anomalous of the anomalies", anomalous[::-1][:_SHOWN]),
        ("Least anomalous of the anomalies", anomalous[:_SHOWN]),
    )
    found, note = [], ""
    for title, chosen in rows:
        if not len(chosen):
            continue
        images = test.take(chosen).float_images()
        view = detector.view_images(images)
        note = view.note
        pictures = {"image": images, **view.pictures}
        entries = []
        for at, place in enumerate(chosen):
            boxes = view.boxes[at] if view.boxes is not None else ()
            entries.append(
                {
                    "id": str(test.ids[place]),
                    "score": f"{scores[place]:.4g}",
                    "alarm": bool(scores[place] > np.float32(detector.threshold)),
                    "pictures": {
                        name: data_uri(_pixels(name, shown, at, boxes), most_bytes=_MOST_BYTES)
                        for name, shown in pictures.items()
                    },
                }
            )
        found.append((title, entries))
    return found, note


def _pixels(name: str, shown: np.ndarray, at: int, boxes: Sequence[Box]) -> np.ndarray:
    """One picture of a view: a map by the range of its row, others as images."""
    if name == "map":
        return to_colours(shown[at, ..., 0] / (float(shown.max()) or 1.0), HEAT)
    pixels = to_pixels(shown[at])
    if name != "image" or not boxes:
        return pixels
    return outline(pixels, [(box.left, box.top, box.right, box.bottom) for box in boxes])


def _latent(detector: OneClassDetector, test: Split) -> Picture:
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
    return Picture.of("Features", f"{caption} {view.note}".strip(), figure)


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
    films = {
        "normalized_auroc": "each film from its lowest score to its highest",
        "smoothed_auroc": "the same, smoothed along the film",
        "mean_film_auroc": "mean over films with both kinds of frames",
    }
    lines += [
        ("AUROC of frames", f"{100 * metrics[name]:.1f}", words)
        for name, words in films.items()
        if name in metrics
    ]
    if "aupro" in metrics:
        count = f"{metrics['images_with_masks']} masks"
        lines.append(("AUROC of pixels", f"{100 * metrics['pixel_auroc']:.1f}", count))
        lines.append(("AUPRO", f"{100 * metrics['aupro']:.1f}", "up to 30 % false pixels"))
    for what in ("mask", "box"):
        if f"{what}_iou" in metrics:  # not in evaluations by version 0.1
            iou, f1 = (f"{100 * metrics[f'{what}_{name}']:.1f}" for name in ("iou", "f1"))
            pixels = "of pixels" if what == "mask" else "of boxes, mean over defects"
            lines.append((f"IoU {pixels}", iou, "at the detector's threshold"))
            lines.append((f"F1 of {'pixels' if what == 'mask' else 'boxes'}", f1, "the same"))
    alarms, found = metrics["false_alarm_rate"], metrics.get("detection_rate")
    lines.append(("false alarms", _rate(alarms), f"asked {100 * alarms['asked']:g}"))
    if found is None:
        lines.append(("anomalies found", "not measured", "no anomaly among the test images"))
    else:
        lines.append(("anomalies found", _rate(found), f"of {found['count']}"))
    return lines


def _rate(rate: dict[str, float]) -> str:
    return f"{100 * rate['got']:.1f} [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]"
