"""Red boxes on image files, from a run's detector."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from anomaly.experiments.runs import load_detector
from anomaly.localization.boxes import draw_boxes
from robustcls._progress import tqdm
from robustcls._validation import InputError
from robustcls.data.decoding import read_image
from robustcls.data.files import image_files
from robustcls.runs import Run


def box_images(
    run: Run | Path | str,
    images: Sequence[str],
    out: Path | str,
    *,
    batch_size: int = 64,
    progress: bool = False,
) -> Path:
    """Writes image files with red boxes around what a run's detector finds anomalous.

    Args:
        run: a run or its folder.
        images: files, or folders whose image files are taken at any depth; they are resized to
            what the detector takes, and so are the boxes.
        out: where the PNGs and `boxes.json` go.
        batch_size: images a forward pass.
        progress: show a progress bar.

    Returns:
        The path of `boxes.json`.

    Raises:
        InputError: no trained detector or one without maps, no images, or unreadable
            ones.
    """
    detector = load_detector(run)
    if not detector.makes_maps:
        raise InputError(
            f"run must be of a method that makes anomaly maps; {detector.method} makes none."
        )
    paths = [path for name in images for path in _image_files(Path(name))]
    if not paths:
        raise InputError(f"images must name at least one image file; received {list(images)}.")
    height, width, channels = detector.image_shape
    pixels = np.stack([read_image(path, (height, width), channels) for path in paths])
    floats = pixels.astype(np.float32) / np.float32(255)
    boxes = []
    for start in tqdm(range(0, len(floats), batch_size), "Boxes", disable=not progress):
        boxes += detector.boxes(floats[start : start + batch_size], batch_size=batch_size)
    return draw_boxes(floats, boxes, out, [str(path) for path in paths])


def _image_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return image_files(path)
