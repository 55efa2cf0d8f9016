"""From a `DetectorConfig` to a run folder with a detector, and from that to its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from anomaly.detection.detector import OneClassDetector
from anomaly.detection.registry import detector_class
from anomaly.experiments.config import DetectorConfig
from anomaly.experiments.control import compare_with_control, mean_image_scores
from anomaly.experiments.protocol import (
    OneClassSplits,
    evaluate_films,
    evaluate_maps,
    evaluate_scores,
    known_anomalies,
    parts_of,
    relabelled,
    score_split,
)
from anomaly.reports.overview import write_overview
from robustcls._trackers import require_tracker, tracked
from robustcls._validation import InputError
from robustcls.data.sources import LARGEST_SIDE, load, sensible_side
from robustcls.data.splits import FloatImages, Split, Splits
from robustcls.distribution.collectives import ask_chief, is_chief, on_chief, require_same, together
from robustcls.distribution.replicas import replica_count
from robustcls.distribution.starting import start, telling_losses
from robustcls.files import write_sealed
from robustcls.reports.evaluations import choose_evaluation, evaluating, evaluation_folder
from robustcls.runs import CONFIG, METRICS, Run, versions

_DETECTOR = "detector"
_LARGEST_SIDE = 128


def train_detector(
    config: DetectorConfig,
    out: Path | str,
    *,
    resume: bool = False,
    overwrite: bool = False,
    verbose: int = 1,
    distribute: str | None = None,
    devices: Sequence[str] = (),
    tracker: str | None = None,
) -> Run | None:
    """Trains a detector and leaves it in the run folder `out`, in `detector/`.

    Args:
        config: the settings.
        out: the run folder to make.
        resume: go on with an interrupted run (bool, default False).
        overwrite: delete a run that is there already (bool, default False).
        verbose: 1 shows Keras' progress bars, 2 a line an epoch, 0 nothing (int, default 1).
        distribute: "mirrored" trains on the devices of this machine, "multi_worker" on all workers
            that `TF_CONFIG` names, of which the chief alone writes; see `robustcls.distribution`
            (str or None, default None).
        devices: which of this machine's, such as "GPU:0" (default ()).
        tracker: "mlflow" or "wandb" keeps a record of each stage's training through its own
            callback (str or None, default None).

    Returns:
        The run; None on workers that are not the chief.

    Raises:
        InputError: a setting or the images are unusable, `out` exists or is in use, or a worker is
            missing, lost or has other settings or images.
    """
    require_tracker(tracker)
    # Of a run that goes on the chief may know settings that the others are not given.
    settings = {} if resume else config.to_dict()
    strategy = start(distribute, devices=devices, settings=settings)
    with telling_losses(strategy), strategy.scope(), ExitStack() as held:
        verbose, tracker = (verbose, tracker) if is_chief() else (0, None)
        return _train(config, Path(out), resume, overwrite, verbose, tracker, held)


def _train(
    config: DetectorConfig,
    out: Path,
    resume: bool,
    overwrite: bool,
    verbose: int,
    tracker: str | None,
    held: ExitStack,
) -> Run | None:
    kind: type[OneClassDetector] = detector_class(config.method)
    own = {"image_shape", "epochs", "augmentation", "false_alarm_rate", "seed"}
    for name in own & config.settings.keys():
        raise InputError(f"settings must not hold {name}, which has a place of its own.")
    kept = ask_chief(lambda: Run.open(out).config if resume and Run.is_at(out) else None)
    resized = ""
    if config.image_size is None:
        config, resized = _sized(config, kind, kept)
    splits = together(lambda: _load_images(config))
    require_same("data", splits.fingerprint)
    parts = parts_of(splits, config)
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
    images, validation = FloatImages(parts.train.images), FloatImages(parts.validation.images)
    # Before a run that is there is overwritten.
    detector.check_fit(images, anomalies=anomalies, validation=validation)
    chosen = detector.choose(len(images), kept.get("detector") if kept else None)
    chosen = " ".join(filter(None, [resized, chosen]))
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
        **({"chosen": chosen} if chosen and not kept else {}),
        "versions": versions(),
    }
    require_same("settings", {"train": config.to_dict(), "detector": detector.get_config()})
    if int(detector.batch_size or 0) % replica_count():
        raise InputError(
            f"batch_size must be a multiple of the number of devices, {replica_count()}; "
            f"received {detector.batch_size}."
        )
    for words in filter(None, [resized, *splits.left_out] if verbose else []):
        print(words, flush=True)
    creating = Run.creating(out, record, resume=resume, overwrite=overwrite)
    run = on_chief(lambda: held.enter_context(creating))
    if not ask_chief(lambda: (out / _DETECTOR / CONFIG).is_file()):
        detector.fit(
            images,
            anomalies=anomalies,
            validation=validation,
            folder=out / "training",
            resume=resume,
            verbose=verbose,
            record=lambda stage: tracked(tracker, out, stage, config.to_dict()),
        )
        on_chief(lambda: detector.save(out / _DETECTOR))
    return run


def evaluate_detector(
    run: Run | Path | str,
    *,
    batch_size: int = 256,
    name: str | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Measures a run's detector on the whole test split.

    Writes `metrics.json`, `report/anomaly.html` and, with maps, `report/images.html` into the run.

    Args:
        run: a run or its folder.
        batch_size: images a forward pass (int, default 256).
        name: of the evaluation, which goes into `evaluations/NAME`; when None it goes into the
            run, and beside one of the detector with another threshold under a name made of that
            (str or None, default None).
        progress: show a progress bar (bool, default False).

    Returns:
        What `metrics.json` holds: the figures of `evaluate_scores` and what they belong to.

    Raises:
        InputError: there is no run or no trained detector, the images have changed since, the name
            is that of an evaluation with another threshold, or another process measures there.
    """
    run, detector = _open(run)
    settings = {key: float(getattr(detector, key)) for key in ("threshold", "false_alarm_rate")}
    name = choose_evaluation(run.path, settings, name=name)
    folder = evaluation_folder(run.path, name)
    with evaluating(folder):
        splits, test = _tested(run)
        scores = score_split(detector, test, batch_size, progress)
        normal_class = splits.class_names.index(run.config["data"]["normal_class"])
        normal = splits.train.take(np.flatnonzero(splits.train.labels == normal_class))
        metrics = {
            "evaluation": name,
            "method": detector.method,
            "normal_class": run.config["data"]["normal_class"],
            **evaluate_scores(
                scores,
                test.labels,
                threshold=detector.threshold,
                false_alarm_rate=detector.false_alarm_rate,
            ),
            **compare_with_control(scores, mean_image_scores(normal, test), test.labels),
            **evaluate_maps(detector, test, run.config["train"]["data"], batch_size),
            **evaluate_films(scores, test),
            "settings": settings,
            "versions": versions(),
            "data_fingerprint": splits.fingerprint,
        }
        metrics["findings"][:0] = splits.left_out
        metrics = write_sealed(folder / METRICS, metrics)
        return write_overview(run, detector, test, scores, metrics, folder)


def load_detector(run: Run | Path | str) -> OneClassDetector:
    """Loads the detector that `train_detector` left in a run.

    Args:
        run: a run of `anomaly train`, or its folder.

    Raises:
        InputError: there is no run, or no trained detector in it.
    """
    return _open(run)[1]


def open_tested(run: Run | Path | str) -> tuple[Run, OneClassDetector, Splits, Split]:
    """Returns a run with its detector, its images as at its training, and its test split.

    Args:
        run: a run of `anomaly train`, or its folder.

    Returns:
        The run, its detector, all images with the labels they have, and the images to test on,
        labels 0 normal and 1 anomaly.

    Raises:
        InputError: there is no run or no trained detector, or the images have changed since.
    """
    run, detector = _open(run)
    return run, detector, *_tested(run)


def open_detector_run(
    run: Run | Path | str,
) -> tuple[Run, OneClassDetector, Splits, OneClassSplits]:
    """Returns what `open_tested` does, with all parts that the training cut in place of the last.

    Args:
        run: a run of `anomaly train`, or its folder.

    Raises:
        InputError: there is no run or no trained detector, or the images have changed since.
    """
    run, detector, splits, _ = open_tested(run)
    return run, detector, splits, parts_of(splits, DetectorConfig(**run.config["train"]))


def _open(run: Run | Path | str) -> tuple[Run, OneClassDetector]:
    run = Run.open(run)
    if "detector" not in run.config:
        raise InputError(f"run must be one of `anomaly train`; {run.path} is another kind of run.")
    run.require_trained(kind="detector", folder=_DETECTOR, file=CONFIG)
    return run, OneClassDetector.load(run.folder(_DETECTOR))


def _tested(run: Run) -> tuple[Splits, Split]:
    splits = _load_images(DetectorConfig(**run.config["train"]))
    if splits.fingerprint != run.config["data"]["fingerprint"]:
        raise InputError(
            f"data must be what the run was trained on; {splits.source} has changed since."
        )
    normal_class = splits.class_names.index(run.config["data"]["normal_class"])
    return splits, relabelled(splits.test, normal_class)


def _sized(
    config: DetectorConfig, kind: type[OneClassDetector], kept: Mapping[str, Any] | None
) -> tuple[DetectorConfig, str]:
    """Returns settings with a size for images that need one, and why; those of a run stay."""
    if kept is not None:
        return replace(config, image_size=kept["train"].get("image_size")), ""
    # What trains for many steps on each pixel gets fewer of them.
    largest = _LARGEST_SIDE if kind.counts_epochs else LARGEST_SIDE
    side, words = sensible_side(config.data, largest=largest, one_class=True)
    return replace(config, image_size=side), words


def _load_images(config: DetectorConfig) -> Splits:
    asked = ("image_size", "channels", "skip_bad_images", "data_dir")
    return load(config.data, one_class=True, **{name: getattr(config, name) for name in asked})
