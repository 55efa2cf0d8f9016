"""A page of images with their anomaly maps and boxes, in the gallery that classifiers have too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from anomaly.detection.detector import OneClassDetector
from anomaly.localization.boxes import smooth
from robustcls._validation import InputError, check_images, check_labels
from robustcls.data.splits import Split
from robustcls.reports.gallery import Bar, Card, Page, Panel, Row, View, write_gallery
from robustcls.reports.pictures import HEAT, data_uri, outline, overlay, to_pixels
from robustcls.runs import Run, versions

TAGS = {
    "alarm": "alarm",
    "quiet": "no alarm",
    "missed": "missed anomaly",
    "false_alarm": "false alarm",
}
#: Of a gallery of a run.
_MOST_IMAGES = 60
_MOST_BYTES = 11_000_000
_PICTURE_BYTES = 40_000


class Rectangle(Protocol):
    """A box: its first column and row, and those after its last."""

    @property
    def left(self) -> int: ...
    @property
    def top(self) -> int: ...
    @property
    def right(self) -> int: ...
    @property
    def bottom(self) -> int: ...


def write_anomaly_report(
    path: Path | str,
    images: np.ndarray,
    *,
    scores: np.ndarray,
    threshold: float,
    maps: np.ndarray,
    boxes: Sequence[Sequence[Rectangle]],
    labels: np.ndarray | None = None,
    ids: Sequence[str] | None = None,
    detector: str = "detector",
    source: str = "given as arrays",
    facts: Mapping[str, Mapping[str, str]] | None = None,
) -> Path:
    """Writes one HTML file: each image with its boxes and map, the highest score first.

    Args:
        path: the file.
        images: float32 [N, H, W, C] in [0, 1].
        scores: float [N], higher is more anomalous.
        threshold: scores above it are alarms.
        maps: float [N, H, W] >= 0, anomaly maps; one scale serves all images.
        boxes: for each image those found in it.
        labels: int [N], 0 normal, 1 anomaly; None when they are not known.
        ids: a name for each image.
        detector: its name.
        source: where the images come from, in words.
        facts: name to value under a title, for the end of the page.

    Returns:
        `path`.

    Raises:
        InputError: the arrays do not fit together, or the file cannot be written.
    """
    images = check_images(images)
    names = [f"image {at}" for at in range(len(images))] if ids is None else list(ids)
    for argument, value in (("scores", scores), ("maps", maps), ("boxes", boxes), ("ids", names)):
        if len(value) != len(images):
            raise InputError(
                f"{argument} must be one for each of {len(images)} images; received {len(value)}."
            )
    if maps.shape != images.shape[:3]:
        raise InputError(f"maps must be {images.shape[:3]}; received shape {maps.shape}.")
    known = None if labels is None else check_labels(labels, len(images), 2)
    scale = float(maps.max())
    most_bytes = min(_PICTURE_BYTES, _MOST_BYTES // (3 * len(images)))
    cards = []
    for at, name in enumerate(names):
        alarm = bool(scores[at] > threshold)
        tags = ["alarm" if alarm else "quiet"]
        if known is not None and alarm != bool(known[at]):
            tags.append("false_alarm" if alarm else "missed")
        heading = f"score {scores[at]:.4g}, {'above' if alarm else 'below'} the threshold"
        count = len(boxes[at])
        found = f"{count} {'box' if count == 1 else 'boxes'}"
        pixels = to_pixels(images[at])
        framed = outline(pixels, [(box.left, box.top, box.right, box.bottom) for box in boxes[at]])
        heat = overlay(images[at], maps[at] / (scale or 1.0), HEAT)

        def panel(caption: str, pixels: np.ndarray, alt: str, name: str = name) -> Panel:
            return Panel(caption, data_uri(pixels, most_bytes=most_bytes), f"{name}: {alt}")

        row = Row(
            "Where",
            [
                panel("as it is", pixels, f"the image, {heading}"),
                panel(found, framed, f"{found} around what is anomalous"),
                panel("map", heat, f"anomaly map, largest value {maps[at].max():.3g}"),
            ],
            [Bar(HEAT, "0", f"{scale:.3g}")],
        )
        kind = "no label" if known is None else ("anomaly" if known[at] else "normal")
        cards.append(Card(name, kind, [View(detector, heading, float(scores[at]), tags, [row])]))
    alarms = int((scores > threshold).sum())
    summary = [f"{detector} raises {alarms} alarms on {len(images)} images."]
    if known is not None:
        caught = int(((scores > threshold) & (known == 1)).sum())
        summary.append(
            f"{caught} of {int((known == 1).sum())} anomalies are caught, and "
            f"{alarms - caught} of {int((known == 0).sum())} normal images raise an alarm."
        )
    page = Page(
        title=f"Anomalies that {detector} sees",
        summary=summary,
        note=f"Images: {source}. Threshold {threshold:.4g}.",
        cards=cards,
        order="anomaly score",
        tags=TAGS if known is not None else {tag: TAGS[tag] for tag in ("alarm", "quiet")},
        facts={**(facts or {}), "Versions": versions()},
    )
    write_gallery(page, path)
    return Path(path)


def write_image_gallery(
    run: Run,
    detector: OneClassDetector,
    test: Split,
    scores: np.ndarray,
    folder: Path | None = None,
) -> Path:
    """Writes at most 60 test images, evenly spaced by the rank of their scores, into a run.

    Args:
        run: of `train_detector`.
        detector: its detector, of a method that makes maps.
        test: the test split, labels 0 normal and 1 anomaly.
        scores: the detector's, float32 [N].
        folder: of the evaluation; the run's if None.

    Returns:
        The path of the page.
    """
    ranks = np.unique(np.linspace(0, len(scores) - 1, _MOST_IMAGES).astype(int))
    shown = np.argsort(scores, kind="stable")[ranks]
    part = test.take(shown)
    images = part.float_images()
    view = detector.view_images(images)
    return write_anomaly_report(
        (run.path if folder is None else folder) / "report" / "images.html",
        images,
        scores=scores[shown],
        threshold=detector.threshold,
        maps=smooth(view.pictures["map"][..., 0]),
        boxes=view.boxes or [],
        labels=part.labels,
        ids=[str(name) for name in part.ids],
        detector=detector.method,
        source=run.config["data"]["source"],
        facts={"Training": {"run": run.path.name, "seed": str(run.config["seed"])}},
    )
