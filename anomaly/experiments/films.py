"""A film through a run's detector: scores of its frames, and the film with red boxes."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from anomaly.experiments.boxes import scaled
from anomaly.experiments.runs import load_detector
from anomaly.localization.boxes import Box, picture_of
from anomaly.video.films import Film, write_film
from robustcls._progress import tqdm
from robustcls._settings import PositiveInt, checked
from robustcls._validation import InputError
from robustcls.data.resizing import fit
from robustcls.runs import Run, atomic, write_json, write_text

_COLUMNS = ("frame", "seconds", "score", "threshold", "verdict", "boxes")


@checked
def annotate_film(
    run: Run | Path | str,
    film: Path | str,
    out: Path | str,
    *,
    batch_size: PositiveInt = 32,
    progress: bool = False,
) -> dict[str, Any]:
    """Scores each frame of a film and writes the film with what was found.

    Writes `NAME.mp4`, with red boxes where the detector makes maps and the score below the
    picture, `frames.csv` and `film.json`. Memory does not grow with the film.

    Args:
        run: a run of `anomaly train` or its folder; each frame is resized to what its detector
            takes.
        film: a file of any kind that FFmpeg reads.
        out: the folder to write into.
        batch_size: frames a forward pass (int >= 1, default 32).
        progress: show a bar (bool, default False).

    Returns:
        What `film.json` holds: `film`, `frames`, `anomalies`, `frames_per_second` of all the work,
        `threshold`, and `ended_early`, why the film has fewer frames than it says, or None.

    Raises:
        InputError: no trained detector, a film that cannot be read, or `out` cannot be written.
    """
    detector = load_detector(run)
    source, out = Film(film), Path(out)
    size, channels = detector.image_shape[:2], detector.image_shape[2]
    rows: list[list[Any]] = []
    written = out / f"{source.path.stem}.mp4"
    start = time.perf_counter()
    frames = tqdm(source.frames(3), "Frames", source.count, disable=not progress, leave=False)
    with write_film(written, source.rate) as add:
        for batch in _batches(frames, batch_size):
            seen = np.stack([fit(pixels, size, channels) for pixels in batch])
            floats = seen.astype(np.float32) / np.float32(255)
            scores = detector.score(floats, batch_size=batch_size)
            boxes: list[list[Any]] = [[] for _ in batch]
            if detector.makes_maps:
                boxes = detector.boxes(floats, batch_size=batch_size)
            for pixels, score, found in zip(batch, scores, boxes, strict=True):
                placed = [scaled(box, size, pixels.shape[:2]) for box in found]
                verdict = "anomaly" if score > np.float32(detector.threshold) else "normal"
                at = len(rows)
                figures = [float(score), float(detector.threshold)]
                rows.append([at, float(at / source.rate), *figures, verdict, len(placed)])
                add(_picture(pixels, placed, f"{at}  {verdict}  {score:.4g}", verdict))
    seconds = time.perf_counter() - start
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_COLUMNS, *rows])
    write_text(out / "frames.csv", text.getvalue())
    found_out = {
        "film": str(source.path),
        "frames": len(rows),
        "anomalies": sum(row[4] == "anomaly" for row in rows),
        "frames_per_second": len(rows) / seconds,
        "threshold": float(detector.threshold),
        "ended_early": source.broken,
    }
    write_json(out / "film.json", found_out)
    return found_out


@checked
def extract_frames(
    film: Path | str,
    out: Path | str,
    *,
    every: PositiveInt = 1,
    first: PositiveInt | None = None,
    channels: int = 3,
) -> int:
    """Writes frames of a film as PNG files, to train a detector on.

    Args:
        film: a file of any kind that FFmpeg reads.
        out: the folder to write into, which must not hold pictures.
        every: takes each n-th frame (int >= 1, default 1).
        first: looks at so many frames from the beginning; None looks at all (int >= 1 or None,
            default None).
        channels: 1 gray or 3 colour (int, default 3).

    Returns:
        The number of files.

    Raises:
        InputError: a film that cannot be read, other channels, or `out` is not empty or cannot be
            written.
    """
    if channels not in (1, 3):
        raise InputError(f"channels must be 1 or 3; received {channels!r}.")
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"out must be a new or an empty folder; {out} is neither.")
    count = 0
    for number, pixels in enumerate(islice(Film(film).frames(channels), first)):
        if number % every == 0:
            with atomic(out / f"{number:06d}.png") as temporary:
                Image.fromarray(pixels.squeeze(-1) if channels == 1 else pixels).save(temporary)
            count += 1
    return count


def _picture(pixels: np.ndarray, boxes: list[Box], words: str, verdict: str) -> np.ndarray:
    """A frame with its boxes, above a strip with words: of one size for all frames of a film."""
    picture = picture_of(pixels / np.float32(255), boxes)
    letters = max(12, round(max(picture.size) / 45))
    whole = Image.new("RGB", (picture.width, picture.height + 2 * letters), "white")
    whole.paste(picture)
    colour = "#b3261e" if verdict == "anomaly" else "#1b1f24"
    place = (letters // 2, picture.height + letters // 3)
    ImageDraw.Draw(whole).text(place, words, colour, ImageFont.load_default(letters))
    return np.asarray(whole)


def _batches(frames: Iterator[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    frames = iter(frames)
    while batch := list(islice(frames, size)):
        yield batch
