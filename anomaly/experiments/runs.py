"""From a `DetectorConfig` to a run folder with a detector, and from that to its figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from anomaly.detection.detector import OneClassDetector
from anomaly.detection.registry import detector_class
from anomaly.experiments.config import DetectorConfig
from anomaly.experiments.protocol import (
    OneClassSplits,
    evaluate_scores,
    known_anomalies,
    one_class_splits,
    score_split,
)
from anomaly.localization.boxes import smooth
from anomaly.localization.measures import aupro, pixel_auroc
from anomaly.reports.overview import write_overview
from anomaly.reports.report import write_image_gallery
from robustcls._validation import InputError
from robustcls.data.one_class_folders import read_masks
from robustcls.data.sources import load
from robustcls.data.splits import Split, Splits
from robustcls.runs import CONFIG, METRICS, Run, versions, write_json

_DETECTOR = "detector"
# Images whose floats are in memory at once.
_CHUNK = 512


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
        resume: go on with an interrupted run (bool, default False).
        overwrite: delete a run that is there already (bool, default False).
        verbose: 1 shows Keras' progress bars, 2 a line an epoch, 0 nothing (int, default 1).

    Raises:
        InputError: a setting or the images are unusable, or `out` exists.
    """
    kind: type[OneClassDetector] = detector_class(config.method)
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
    images, validation = parts.train.float_images(), parts.validation.float_images()
    # Before a run that is there is overwritten.
    detector.check_fit(images, anomalies=anomalies, validation=validation)
    run = Run.create(out, record, resume=resume, overwrite=overwrite)
    if not (run.folder(_DETECTOR) / CONFIG).is_file():
        detector.fit(
            images,
            anomalies=anomalies,
            validation=validation,
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
    with maps and boxes, where the detector makes maps.

    Args:
        run: a run or its folder.
        batch_size: images a forward pass (int, default 256).
        progress: show a progress bar (bool, default False).

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
        **_evaluate_maps(run, detector, parts.test, batch_size),
        "versions": versions(),
        "data_fingerprint": splits.fingerprint,
    }
    write_json(run.path / METRICS, metrics)
    write_overview(run, detector, parts.test, scores, metrics)
    if detector.makes_maps:
        write_image_gallery(run, detector, parts.test, scores)
    return metrics


def _evaluate_maps(
    run: Run, detector: OneClassDetector, test: Split, batch_size: int
) -> dict[str, Any]:
    """Returns `pixel_auroc` and `aupro` over the test images whose masks are in the folder.

    Normal images count as such everywhere; anomalies without a mask are left out.
    """
    root = Path(run.config["train"]["data"])
    if not (detector.makes_maps and root.is_dir()):
        return {}
    masks, known = read_masks(root, test.ids, detector.image_shape[:2])
    chosen = np.flatnonzero(known | (test.labels == 0))
    if not masks[chosen].any():
        return {}
    maps = smooth(
        np.concatenate(
            [
                detector.run_batches(
                    "anomaly_map_batch",
                    test.take(chosen[start : start + _CHUNK]).float_images(),
                    batch_size,
                )
                for start in range(0, len(chosen), _CHUNK)
            ]
        )
    )
    return {
        "pixel_auroc": pixel_auroc(maps, masks[chosen]),
        "aupro": aupro(maps, masks[chosen]),
        "images_with_masks": int(known.sum()),
    }


def load_detector(run: Run | Path | str) -> OneClassDetector:
    """Loads the detector that `train_detector` left in a run.

    Args:
        run: a run of `anomaly train`, or its folder.

    Raises:
        InputError: there is no run, or no trained detector in it.
    """
    run = Run.open(run)
    if "detector" not in run.config:
        raise InputError(f"run must be one of `anomaly train`; {run.path} is another kind of run.")
    run.require_trained(kind="detector", folder=_DETECTOR, file=CONFIG)
    return OneClassDetector.load(run.folder(_DETECTOR))


def open_detector_run(
    run: Run | Path | str,
) -> tuple[Run, OneClassDetector, Splits, OneClassSplits]:
    """Returns a run with its detector and its images, the same as at its training.

    Args:
        run: a run of `anomaly train`, or its folder.

    Raises:
        InputError: there is no run or no trained detector, or the images have changed since.
    """
    run = Run.open(run)
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
        one_class=True,
        data_dir=config.data_dir,
    )
    parts = one_class_splits(
        splits,
        config.normal_class,
        false_alarm_rate=config.false_alarm_rate,
        seed=config.seed,
    )
    return splits, parts
