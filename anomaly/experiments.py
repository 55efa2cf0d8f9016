"""From a `DetectorConfig` to a run folder with a detector, and from that to its figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from anomaly.config import DetectorConfig
from anomaly.detector import OneClassDetector
from anomaly.gallery import write_image_gallery
from anomaly.localization import draw_boxes
from anomaly.methods import detector_class
from anomaly.overview import write_overview
from anomaly.protocol import OneClassSplits, evaluate_scores, known_anomalies, one_class_splits
from anomaly.reconstruction import ReconstructionDetector
from robustcls._validation import InputError
from robustcls.data.decoding import EXTENSIONS, read_image
from robustcls.data.sources import load
from robustcls.data.splits import Split, Splits
from robustcls.runs import CONFIG, METRICS, Run, read_json, versions, write_json
from robustcls.serving.extra import require_serving

_DETECTOR = "detector"
_CHUNK = 4096


def train_detector(
    config: DetectorConfig,
    out: Path | str,
    *,
    resume: bool = False,
    overwrite: bool = False,
    verbose: int = 1,
) -> Run:
    """Trains a detector and leaves it in the run folder `out`, in `detector/`.

    Args:
        config: the settings.
        out: the run folder to make.
        resume: go on with an interrupted run.
        overwrite: delete a run that is there already.
        verbose: 1 shows Keras' progress bars, 0 nothing.

    Raises:
        InputError: a setting or the images are unusable, or `out` exists.
    """
    kind = detector_class(config.method)
    own = {"image_shape", "epochs", "augmentation", "false_alarm_rate", "seed"}
    for name in own & config.settings.keys():
        raise InputError(f"settings must not hold {name}, which has a place of its own.")
    splits, parts = _load(config)
    anomalies = None
    if config.labelled_anomalies:
        anomalies = known_anomalies(splits, parts, config.labelled_anomalies, config.seed)
        if not kind.takes_anomalies:
            raise InputError(
                f"labelled_anomalies must be 0 for {config.method}, which learns from normal "
                f"images alone; received {config.labelled_anomalies:g}."
            )
    settings = {
        "image_shape": splits.image_shape,
        "augmentation": config.augmentation,
        "false_alarm_rate": config.false_alarm_rate,
        "seed": config.seed,
        **({} if config.epochs is None else {"epochs": config.epochs}),
        **config.settings,
    }
    detector = kind.from_config(settings)
    record = {
        "train": config.to_dict(),
        "detector": detector.get_config(),
        "data": {
            "source": splits.source,
            "fingerprint": splits.fingerprint,
            "class_names": list(splits.class_names),
            "normal_class": splits.class_names[parts.normal_class],
            "image_shape": list(splits.image_shape),
            "images": {"train": len(parts.train), "validation": len(parts.validation)},
            "skipped": list(splits.skipped),
        },
        "seed": config.seed,
        "versions": versions(),
    }
    run = Run.create(out, record, resume=resume, overwrite=overwrite)
    if not (run.folder(_DETECTOR) / CONFIG).is_file():
        detector.fit(
            parts.train.float_images(),
            anomalies=anomalies,
            validation=parts.validation.float_images(),
            folder=run.path / "training",
            resume=resume,
            verbose=verbose,
        )
        detector.save(run.folder(_DETECTOR))
    return run


def evaluate_detector(
    run: Run | Path | str, *, batch_size: int = 256, progress: bool = False
) -> dict[str, Any]:
    """Measures a run's detector on the whole test split.

    Writes `metrics.json` and `report/anomaly.html` into the run, and `report/images.html`, images
    with maps and boxes, where the detector reconstructs.

    Args:
        run: a run or its folder.
        batch_size: images a forward pass.
        progress: show a progress bar.

    Returns:
        What `metrics.json` holds: the figures of `evaluate_scores` and what they belong to.

    Raises:
        InputError: there is no run or no trained detector, or the images have changed since.
    """
    run, detector, splits, parts = open_detector_run(run)
    scores = score_split(detector, parts.test, batch_size, progress)
    metrics = {
        "method": detector.method,
        "normal_class": run.config["data"]["normal_class"],
        **evaluate_scores(
            scores,
            parts.test.labels,
            threshold=detector.threshold,
            false_alarm_rate=detector.false_alarm_rate,
        ),
        "versions": versions(),
        "data_fingerprint": splits.fingerprint,
    }
    write_json(run.path / METRICS, metrics)
    write_overview(run, detector, parts.test, scores, metrics, table_lines(metrics))
    if isinstance(detector, ReconstructionDetector):
        write_image_gallery(run, detector, parts.test, scores)
    return metrics


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
    from anomaly.exporting import write_detector
    from robustcls.serving.configuration import usable_name
    from robustcls.serving.exporting import sample

    run, detector, splits, parts = open_detector_run(run)
    return write_detector(
        detector,
        run.path / "export" if out is None else out,
        images=sample(parts.test),
        name=name or usable_name(run.path.resolve().name),
        version=version,
        card=card_of(run, splits),
    )


def card_of(run: Run, splits: Splits) -> dict[str, Any]:
    """Returns fields of `robustcls.serving.card.Card` for a run: data, metrics, config."""
    from robustcls.serving.card import metric_row

    metrics = read_json(run.path / METRICS) if (run.path / METRICS).is_file() else {}
    rows = []
    if metrics:
        rates = {"false alarms": "false_alarm_rate", "anomalies found": "detection_rate"}
        rows = [metric_row(key, metrics[key], None) for key in ("auroc", "aupr", "f1")]
        rows += [metric_row(key, metrics[of]["got"], metrics[of]) for key, of in rates.items()]
    data = {
        "source": splits.source,
        "fingerprint": splits.fingerprint,
        "normal class": run.config["data"]["normal_class"],
    }
    return {"data": data, "metrics": tuple(rows), "config": run.config["detector"]}


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
        InputError: no trained detector or one that does not reconstruct, no images, or unreadable
            ones.
    """
    detector = load_detector(run)
    if not isinstance(detector, ReconstructionDetector):
        raise InputError(
            f"run must be of a method that reconstructs images; {detector.method} does not."
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


def load_detector(run: Run | Path | str) -> OneClassDetector:
    """Loads the detector that `train_detector` left in a run.

    Raises:
        InputError: there is no run, or no trained detector in it.
    """
    run = run if isinstance(run, Run) else Run(run)
    if "detector" not in run.config:
        raise InputError(f"run must be one of `anomaly train`; {run.path} is another kind of run.")
    if not (run.folder(_DETECTOR) / CONFIG).is_file():
        raise InputError(
            f"run must hold a trained detector; {run.path} holds none. Was its training "
            "interrupted? Go on with --resume."
        )
    return OneClassDetector.load(run.folder(_DETECTOR))


def _image_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*") if file.suffix.lower() in EXTENSIONS)


def print_evaluation(metrics: dict[str, Any], console: Console | None = None) -> None:
    """Prints the figures of `metrics`, rates with their 95 % intervals."""
    table = Table(title=f"{metrics['method']}, normal: {metrics['normal_class']}; figures in %")
    table.add_column("on the test split")
    table.add_column("measured", justify="right")
    table.add_column("beside it")
    for line in table_lines(metrics):
        table.add_row(*line)
    (console or Console()).print(table)


def table_lines(metrics: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Returns name, value in % and remark of each figure of `evaluate_detector`."""
    false_alarms, detected = metrics["false_alarm_rate"], metrics["detection_rate"]
    share = 100 * metrics["anomaly_share"]
    lines = [
        ("AUROC", f"{100 * metrics['auroc']:.1f}", "chance 50.0"),
        ("AUPR", f"{100 * metrics['aupr']:.1f}", f"chance {share:.1f}"),
        ("F1", f"{100 * metrics['f1']:.1f}", f"threshold {metrics['threshold']:.4g}"),
    ]
    for name, rate, beside in (
        ("false alarms", false_alarms, f"asked {100 * false_alarms['asked']:g}"),
        ("anomalies found", detected, f"of {detected['count']}"),
    ):
        interval = f"[{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]"
        lines.append((name, f"{100 * rate['got']:.1f} {interval}", beside))
    return lines


def open_detector_run(
    run: Run | Path | str,
) -> tuple[Run, OneClassDetector, Splits, OneClassSplits]:
    """Returns a run with its detector and its images, the same as at its training.

    Raises:
        InputError: there is no run or no trained detector, or the images have changed since.
    """
    run = run if isinstance(run, Run) else Run(run)
    detector = load_detector(run)
    splits, parts = _load(DetectorConfig(**run.config["train"]))
    if splits.fingerprint != run.config["data"]["fingerprint"]:
        raise InputError(
            f"data must be what the run was trained on; {splits.source} has changed since."
        )
    return run, detector, splits, parts


def _load(config: DetectorConfig) -> tuple[Splits, OneClassSplits]:
    splits = load(
        config.data,
        image_size=config.image_size,
        channels=config.channels,
        skip_bad_images=config.skip_bad_images,
        data_dir=config.data_dir,
    )
    parts = one_class_splits(
        splits,
        config.normal_class,
        false_alarm_rate=config.false_alarm_rate,
        seed=config.seed,
    )
    return splits, parts


def score_split(
    detector: OneClassDetector, split: Split, batch_size: int = 256, progress: bool = False
) -> np.ndarray:
    """Returns the scores of a split that may be larger than memory, float32 [N]."""
    starts = range(0, len(split), _CHUNK)
    return np.concatenate(
        [
            detector.score(
                split.take(slice(start, start + _CHUNK)).float_images(), batch_size=batch_size
            )
            for start in tqdm(starts, "Scoring", disable=not progress, leave=False)
        ]
    )
