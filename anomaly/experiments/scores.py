"""Scores of image files, from a run's detector, in pieces that can be shared."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from anomaly.detection.detector import OneClassDetector
from anomaly.experiments.runs import load_detector
from robustcls._progress import tqdm
from robustcls._settings import Flag, PositiveInt, check_settings
from robustcls._validation import InputError
from robustcls.data.decoding import BadImageError, FileReader, read_image
from robustcls.data.files import named_files
from robustcls.distribution.parts import Ledger
from robustcls.distribution.work import Piece, Work
from robustcls.runs import read_json, write_json, write_text

SETTINGS = "score_settings.json"
#: The verdict on a file that was left out.
UNREADABLE = "unreadable"
# Files of a piece: minutes for a detector on large pictures, seconds on small ones.
_FILES = 512
_COLUMNS = ("image", "score", "threshold", "verdict")


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """Which files are scored, and by what.

    Args:
        run: folder of a run of `anomaly train` (str).
        images: files, or folders whose image files are taken at any depth (tuple of str).
        batch_size: images a forward pass (int >= 1, default 64).
        skip_bad_images: unreadable files have a row that says so, instead of an error that lists
            them (bool, default False).

    Raises:
        InputError: a setting is unusable.
    """

    run: str
    images: tuple[str, ...]
    batch_size: PositiveInt = 64
    skip_bad_images: Flag = False

    def __post_init__(self) -> None:
        check_settings(self)

    @classmethod
    def kept_in(cls, out: Path | str) -> ScoreConfig:
        """Returns the settings that the scores in a folder were made with.

        Args:
            out: the folder.

        Raises:
            InputError: it holds none.
        """
        path = Path(out) / SETTINGS
        if not path.is_file():
            raise InputError(f"out must hold a benchmark or scores; {out} holds no {SETTINGS}.")
        return cls(**read_json(path) | {"images": tuple(read_json(path)["images"])})


def score_files(
    config: ScoreConfig, out: Path | str, *, resume: bool = False, progress: bool = False
) -> Path:
    """Scores image files by a run's detector.

    Each is resized to the detector's size. `scores.csv` and `scores.json` hold for each file its
    score, the threshold and the verdict, or why it cannot be read; they do not depend on how the
    files were divided among processes. Memory does not grow with their number, but for the
    scores.

    Args:
        config: the run and the files.
        out: the folder for the results; what has been found is kept there in `pieces/`.
        resume: keep what was found already (bool, default False).
        progress: show a progress bar (bool, default False).

    Returns:
        The path of `scores.json`.

    Raises:
        InputError: no trained detector, no images, or unreadable ones, all of which are named
            after the others were scored: what was found is kept for `resume`.
    """
    out, work = Path(out), score_work(config, out)
    if not resume:
        work.results.clear()
    write_json(out / SETTINGS, dataclasses.asdict(config))
    entries: list[dict[str, Any]] = []
    for piece in tqdm(work.pieces, "Scoring", disable=not progress):
        entries += work.do(piece)["entries"]
    _require_readable(config, entries)
    table = io.StringIO()
    writer = csv.DictWriter(table, _COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(entries)
    write_text(out / "scores.csv", table.getvalue())
    write_json(out / "scores.json", entries)
    return out / "scores.json"


def _require_readable(config: ScoreConfig, entries: Sequence[dict[str, Any]]) -> None:
    files = FileReader(skip=config.skip_bad_images)
    bad = [entry for entry in entries if entry["verdict"] == UNREADABLE]
    files.bad += [BadImageError(entry["image"], entry["reason"]) for entry in bad]
    files.require_readable()
    for words in files.left_out:
        print(words, file=sys.stderr)
    if len(bad) == len(entries):
        raise InputError(
            f"images must name at least one readable image file; received {list(config.images)}."
        )


def score_work(config: ScoreConfig, out: Path | str) -> Work:
    """Returns what is to be scored, some hundred files in a piece.

    Args:
        config: the run and the files.
        out: the folder for the results.

    Raises:
        InputError: no trained detector, or no images.
    """
    for name in config.images:
        if not Path(name).expanduser().exists():
            raise InputError(f"images must be files or folders; {name} does not exist.")
    paths = named_files(config.images)
    if not paths:
        raise InputError(
            f"images must name at least one image file; received {list(config.images)}."
        )
    scorer = _Scorer(config)
    digest = hashlib.sha256()
    for file in sorted((Path(config.run) / "detector").rglob("*")):
        if file.is_file():
            digest.update(file.name.encode() + file.read_bytes())
    pieces = []
    for start in range(0, len(paths), _FILES):
        chosen = paths[start : start + _FILES]
        depends_on = {
            "detector": digest.hexdigest(),
            "batch_size": config.batch_size,
            "files": _digest(chosen),
        }
        pieces.append(Piece("files", f"{start:09d}", depends_on, partial(scorer.score, chosen)))
    return Work(Ledger(Path(out) / "pieces", reuse=True), pieces)


class _Scorer:
    """Loads the detector for the first piece.

    Args:
        config: the run and the batch size.
    """

    def __init__(self, config: ScoreConfig) -> None:
        self._config = config
        if not (Path(config.run) / "detector" / "config.json").is_file():
            load_detector(config.run)  # says what is wrong

    @cached_property
    def detector(self) -> OneClassDetector:
        return load_detector(self._config.run)

    def score(self, paths: Sequence[Path], _: Path) -> dict[str, Any]:
        entries = []
        for start in range(0, len(paths), self._config.batch_size):
            entries += self._score(paths[start : start + self._config.batch_size])
        return {"entries": entries}

    def _score(self, paths: Sequence[Path]) -> list[dict[str, Any]]:
        detector, seen = self.detector, {}
        entries: dict[Path, dict[str, Any]] = {}
        height, width, channels = detector.image_shape
        for path in paths:
            try:
                seen[path] = read_image(path, (height, width), channels)
            except BadImageError as error:
                entries[path] = {"score": None, "verdict": UNREADABLE, "reason": error.reason}
        if seen:
            images = np.stack(list(seen.values())).astype(np.float32) / np.float32(255)
            scores = detector.score(images, batch_size=self._config.batch_size)
            for path, score in zip(seen, scores, strict=True):
                anomalous = score > np.float32(detector.threshold)
                verdict = "anomaly" if anomalous else "normal"
                entries[path] = {"score": float(score), "verdict": verdict}
        threshold = float(detector.threshold)
        return [{"image": str(path), "threshold": threshold, **entries[path]} for path in paths]


def _digest(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        size = path.stat().st_size if path.is_file() else -1
        digest.update(f"{path}\0{size}\0".encode())
    return digest.hexdigest()
