"""Red boxes on image files, from a run's detector, in the pixels of the files."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from anomaly.experiments.runs import load_detector
from anomaly.localization.boxes import Box, picture_of
from robustcls._progress import tqdm
from robustcls._validation import InputError
from robustcls.data.decoding import BadImageError, FileReader, read_image
from robustcls.data.files import named_files
from robustcls.runs import Run, atomic, write_json, write_text

_COLUMNS = ("image", "width", "height", "score", "threshold", "verdict")
_BOX_COLUMNS = ("left", "top", "right", "bottom", "box_score")


def box_images(
    run: Run | Path | str,
    images: Sequence[str],
    out: Path | str,
    *,
    batch_size: int = 64,
    skip_bad_images: bool = False,
    progress: bool = False,
) -> Path:
    """Writes image files with red boxes around what a run's detector finds anomalous.

    The detector sees the images at its own size; boxes, pictures and figures are in the pixels
    of the files, as they are seen (after their EXIF orientation).

    Args:
        run: a run or its folder.
        images: files, or folders whose image files are taken at any depth.
        out: where the PNGs, `boxes.json` and `boxes.csv` go.
        batch_size: images a forward pass.
        skip_bad_images: unreadable files have an entry that says so, and no picture, instead of an
            error that lists them (bool, default False).
        progress: show a progress bar.

    Returns:
        The path of `boxes.json`: for each file its picture, size, score, verdict and boxes.

    Raises:
        InputError: no trained detector or one without maps, no images, or unreadable ones, all
            of which are named before anything is written.
    """
    detector = load_detector(run)
    if not detector.makes_maps:
        raise InputError(
            f"run must be of a method that makes anomaly maps; {detector.method} makes none."
        )
    paths, files = _readable(images, skip_bad_images)
    out, size, channels = Path(out), detector.image_shape[:2], detector.image_shape[2]
    entries: list[dict[str, Any]] = []
    for start in tqdm(range(0, len(paths), batch_size), "Boxes", disable=not progress):
        chosen = paths[start : start + batch_size]
        seen = np.stack([read_image(path, size, channels) for path in chosen]).astype(np.float32)
        seen /= np.float32(255)
        scores = detector.score(seen, batch_size=batch_size)
        found = detector.boxes(seen, batch_size=batch_size)
        for path, score, boxes in zip(chosen, scores, found, strict=True):
            # Read once more: whole, a batch of large pictures would not fit into memory.
            pixels = read_image(path, None, channels)
            height, width = pixels.shape[:2]
            placed = [scaled(box, size, (height, width)) for box in boxes]
            entry = {
                "image": str(path),
                "picture": f"{len(entries):05d}.png",
                "width": width,
                "height": height,
                "score": float(score),
                "threshold": float(detector.threshold),
                "verdict": "anomaly" if score > np.float32(detector.threshold) else "normal",
                "boxes": [dataclasses.asdict(box) for box in placed],
            }
            with atomic(out / entry["picture"]) as temporary:
                _captioned(picture_of(pixels / np.float32(255), placed), entry).save(
                    temporary, "PNG"
                )
            entries.append(entry)
    entries += [_unreadable(error) for error in files.bad]
    write_text(out / "boxes.csv", _csv(entries))
    write_json(out / "boxes.json", entries)
    return out / "boxes.json"


def scaled(box: Box, size: tuple[int, int], target: tuple[int, int]) -> Box:
    """Returns a box in the pixels of an image of another size: all pixels that it touches.

    Args:
        box: in an image of `size`.
        size: (height, width) of the image that the box is in.
        target: (height, width) of the other.
    """
    down, across = target[0] / size[0], target[1] / size[1]
    return Box(
        left=math.floor(box.left * across + 1e-6),
        top=math.floor(box.top * down + 1e-6),
        right=min(target[1], math.ceil(box.right * across - 1e-6)),
        bottom=min(target[0], math.ceil(box.bottom * down - 1e-6)),
        score=box.score,
    )


def _captioned(picture: Image.Image, entry: dict[str, Any]) -> Image.Image:
    """Adds a strip below a picture with the score and the verdict."""
    score, threshold = entry["score"], entry["threshold"]
    words = f"{entry['verdict']}: score {score:.4g}, threshold {threshold:.4g}"
    letters = max(12, round(max(picture.size) / 45))
    font = ImageFont.load_default(letters)
    while font.getlength(words) > picture.width - letters and letters > 8:
        letters -= 1
        font = ImageFont.load_default(letters)
    whole = Image.new("RGB", (picture.width, picture.height + 2 * letters), "white")
    whole.paste(picture)
    colour = "#b3261e" if entry["verdict"] == "anomaly" else "#1b1f24"
    place = (letters // 2, picture.height + letters // 3)
    ImageDraw.Draw(whole).text(place, words, colour, font)
    return whole


def _csv(entries: Sequence[dict[str, Any]]) -> str:
    """A row for each box, and one for an image without any."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_COLUMNS, *_BOX_COLUMNS])
    for entry in entries:
        own = [entry[column] for column in _COLUMNS]
        boxes = [list(box.values()) for box in entry["boxes"]]
        writer.writerows([*own, *box] for box in boxes or [[""] * len(_BOX_COLUMNS)])
    return text.getvalue()


def _unreadable(error: BadImageError) -> dict[str, Any]:
    nothing = dict.fromkeys(("picture", "width", "height", "score", "threshold"))
    said = {"verdict": "unreadable", "reason": error.reason, "boxes": []}
    return {"image": str(error.path), **nothing, **said}


def _readable(images: Sequence[str], skip: bool) -> tuple[list[Path], FileReader]:
    """Returns the files that can be read, and the account of all; others are named in a line."""
    paths, files = named_files(images), FileReader(skip=skip)
    fine = files.each(lambda path: bool(read_image(path, None, 1).size), paths, "Checking")
    files.require_readable()
    for words in files.left_out:
        print(words, file=sys.stderr)
    readable = [path for path, good in zip(paths, fine, strict=True) if good]
    if not readable:
        raise InputError(
            f"images must name at least one readable image file; received {list(images)}."
        )
    return readable, files
