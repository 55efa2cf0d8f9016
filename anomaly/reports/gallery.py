"""`report/images.html`: test images from the lowest to the highest score, with maps and boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anomaly.detection.reconstruction import ReconstructionDetector
from anomaly.localization.boxes import smooth
from anomaly.reports.report import write_anomaly_report
from robustcls.data.splits import Split
from robustcls.runs import Run

_MOST = 60


def write_image_gallery(
    run: Run, detector: ReconstructionDetector, test: Split, scores: np.ndarray
) -> Path:
    """Writes at most 60 test images, evenly spaced by the rank of their scores, into a run.

    Args:
        run: of `train_detector`.
        detector: its detector.
        test: the test split, labels 0 normal and 1 anomaly.
        scores: the detector's, float32 [N].

    Returns:
        The path of the page.
    """
    ranks = np.unique(np.linspace(0, len(scores) - 1, _MOST).astype(int))
    shown = np.argsort(scores, kind="stable")[ranks]
    part = test.take(shown)
    images = part.float_images()
    return write_anomaly_report(
        run.path / "report" / "images.html",
        images,
        scores=scores[shown],
        threshold=detector.threshold,
        maps=smooth(detector.anomaly_map(images)),
        boxes=detector.boxes(images),
        labels=part.labels,
        ids=[str(name) for name in part.ids],
        detector=detector.method,
        source=run.config["data"]["source"],
        facts={"Training": {"run": run.path.name, "seed": str(run.config["seed"])}},
    )
