"""One-class tables: every method on every class, several seeds, results written as they go."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from anomaly.detection.detector import OneClassDetector
from anomaly.detection.registry import METHODS, detector_class
from anomaly.experiments.config import BenchmarkConfig
from anomaly.experiments.protocol import (
    evaluate_films,
    evaluate_maps,
    evaluate_scores,
    known_anomalies,
    score_split,
)
from anomaly.experiments.results import ResultFiles, is_whole
from anomaly.experiments.tables import write_tables
from anomaly.experiments.tasks import Tasks, tasks_of
from robustcls._validation import InputError, check_choice
from robustcls.data.splits import FloatImages, Split, Splits
from robustcls.distribution.work import Piece, Work
from robustcls.files import read_sealed
from robustcls.runs import Run, versions

#: Test images whose AUROC after every epoch gives the oracle's best.
ORACLE_IMAGES = 2000


@dataclass(frozen=True)
class _Job:
    row: str
    normal_class: int
    seed: int

    @property
    def file(self) -> str:
        return f"results/{self.row}-{self.normal_class}-{self.seed}.json"


def run_benchmark(
    config: BenchmarkConfig,
    out: Path | str,
    *,
    resume: bool = False,
    overwrite: bool = False,
    verbose: int = 1,
) -> Run:
    """Trains and measures every method on every class, seed by seed.

    Each result is a file in `results/` as soon as it is there, and `results.json`, `results.csv`
    and `results.md` are written anew after each. With `resume`, what is there is not done again.

    Args:
        config: the settings.
        out: the run folder to make.
        resume: go on with an interrupted benchmark.
        overwrite: delete a run that is there already.
        verbose: 1 prints a line a result, 0 nothing.

    Raises:
        InputError: a setting or the images are unusable, or `out` exists.
    """
    work = benchmark_work(config, Path(out))
    record = {**work.facts, "versions": versions()}
    with Run.creating(out, record, resume=resume, overwrite=overwrite) as run:
        for number, piece in enumerate(work.pieces, 1):
            if not work.holds(piece):
                start = time.perf_counter()
                result = work.do(piece)
                if verbose:
                    print(work.line(number, piece, result, time.perf_counter() - start), flush=True)
        work.arrived()
    return run


def open_benchmark(
    config: BenchmarkConfig, out: Path | str, *, resume: bool = False, overwrite: bool = False
) -> tuple[Run, Work]:
    """Makes the run folder of a benchmark, or opens it again, and returns what is to be measured.

    Args:
        config: the settings.
        out: the run folder.
        resume: go on with one that is there (bool, default False).
        overwrite: delete a run that is there already (bool, default False).

    Raises:
        InputError: a setting or the images are unusable, or `out` exists.
    """
    work = benchmark_work(config, Path(out))
    record = {**work.facts, "versions": versions()}
    return Run.create(out, record, resume=resume, overwrite=overwrite), work


def benchmark_work(config: BenchmarkConfig, out: Path) -> Work:
    """Returns what is to be measured, one method on one class with one seed in a piece.

    Args:
        config: the settings.
        out: the run folder, which need not be there.

    Raises:
        InputError: a setting or the images are unusable.
    """
    _check(config)
    tasks = tasks_of(config)
    for words in tasks.left_out:
        print(words, flush=True)
    # Every setting is tried before the first training.
    for row in config.methods:
        _detector(config, row, tasks.open(tasks.numbers[0]).splits, 0)
    facts = {
        "benchmark": asdict(config),
        "data": {"source": tasks.source, "fingerprint": tasks.fingerprint},
    }
    jobs = list(_jobs(config, tasks.numbers))
    pieces = [
        Piece(
            job.row,
            f"{job.normal_class}-{job.seed}",
            facts,
            partial(_piece, config, job, tasks),
        )
        for job in jobs
    ]
    return Work(
        ResultFiles(out / "results"),
        pieces,
        facts=facts,
        arrived=partial(_tabulate, out, jobs, tasks),
        in_words=_in_words,
    )


def _check(config: BenchmarkConfig) -> None:
    if not config.methods:
        raise InputError(f"methods must name at least one of {', '.join(METHODS)}; received none.")
    for row in config.methods:
        check_choice("methods", row.partition("@")[0], METHODS)
    for row in config.settings or {}:
        check_choice("settings", row, config.methods)


def _jobs(config: BenchmarkConfig, classes: Sequence[int]) -> Iterator[_Job]:
    """Seeds outermost, so that a benchmark that is stopped has whole tables of fewer seeds."""
    for seed in range(config.seeds):
        for row in config.methods:
            for label in classes:
                yield _Job(row, label, seed)


def _detector(config: BenchmarkConfig, row: str, splits: Splits, seed: int) -> OneClassDetector:
    kind: type[OneClassDetector] = detector_class(row.partition("@")[0])
    settings: dict[str, Any] = {
        "image_shape": splits.image_shape,
        "false_alarm_rate": config.false_alarm_rate,
        "seed": seed,
    }
    if config.epochs is not None and kind.counts_epochs:
        settings["epochs"] = config.epochs
    return kind.from_config(settings | (config.settings or {}).get(row, {}))


def _piece(config: BenchmarkConfig, job: _Job, tasks: Tasks, _: Path) -> dict[str, Any]:
    return _measure(config, job, tasks)


def _measure(config: BenchmarkConfig, job: _Job, tasks: Tasks) -> dict[str, Any]:
    task = tasks.open(job.normal_class)
    splits, parts = task.splits, task.parts
    detector = _detector(config, job.row, splits, job.seed)
    anomalies = None
    if detector.wants_anomalies:
        anomalies = known_anomalies(splits, parts, config.labelled_anomalies, job.seed)
    watch = _Oracle(detector, parts.test)
    start = time.perf_counter()
    detector.fit(
        FloatImages(parts.train.images),
        anomalies=anomalies,
        validation=FloatImages(parts.validation.images),
        verbose=0,
        watch=watch if config.oracle else None,
    )
    seconds = time.perf_counter() - start - watch.seconds
    start = time.perf_counter()
    scores = score_split(detector, parts.test)
    scoring = time.perf_counter() - start
    final = watch.auroc()
    return {
        "row": job.row,
        "method": detector.method,
        "normal_class": tasks.names[job.normal_class],
        "seed": job.seed,
        "labelled_anomalies": 0 if anomalies is None else len(anomalies),
        **evaluate_scores(
            scores,
            parts.test.labels,
            threshold=detector.threshold,
            false_alarm_rate=detector.false_alarm_rate,
        ),
        **evaluate_maps(detector, parts.test, task.data),
        **evaluate_films(scores, parts.test),
        "training_seconds": seconds,
        "images_per_second": len(scores) / scoring,
        "oracle": {
            "images": watch.count,
            "auroc": final,
            "best_auroc": max([final, *(epoch["auroc"] for epoch in watch.epochs)]),
            "epochs": watch.epochs,
        },
        "settings": detector.get_config(),
    }


class _Oracle:
    """The AUROC on test images after every epoch, and the seconds that took."""

    def __init__(self, detector: OneClassDetector, test: Split) -> None:
        self.detector = detector
        step = max(1, -(-len(test) // ORACLE_IMAGES))
        chosen = test.take(slice(None, None, step))
        self.images, self.labels = chosen.float_images(), chosen.labels
        self.count = len(chosen)
        self.seconds = 0.0
        self.epochs: list[dict[str, Any]] = []

    def __call__(self, stage: str, epoch: int) -> None:
        start = time.perf_counter()
        self.epochs.append({"stage": stage, "epoch": epoch, "auroc": self.auroc()})
        self.seconds += time.perf_counter() - start

    def auroc(self) -> float:
        scores = self.detector.score(self.images)
        return float(roc_auc_score(self.labels, scores)) if np.isfinite(scores).all() else 0.5


def _in_words(result: dict[str, Any]) -> str:
    return f"normal {result['normal_class']}, AUROC {100 * result['auroc']:.2f} %"


def _tabulate(out: Path, jobs: list[_Job], tasks: Tasks) -> None:
    files = [out / job.file for job in jobs]
    results = [read_sealed(path) for path in files if is_whole(path)]
    title = f"{tasks.source}, {len(results)} of {len(jobs)} results"
    write_tables(results, list(tasks.names), title, out)
