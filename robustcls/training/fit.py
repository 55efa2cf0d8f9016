"""From a `TrainConfig` to a run folder with trained models."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from robustcls._memory import within_memory
from robustcls._stopping import saving_first
from robustcls._trackers import require_tracker, tracked
from robustcls._validation import InputError, check_finite_weights
from robustcls.data.pipeline import evaluation_batches
from robustcls.data.sources import load
from robustcls.data.splits import Splits
from robustcls.distribution.collectives import (
    ask_chief,
    is_chief,
    on_chief,
    require_same,
    together,
)
from robustcls.distribution.multi_worker import for_workers
from robustcls.distribution.replicas import replica_count, worker_count
from robustcls.distribution.starting import start, telling_losses
from robustcls.distribution.timing import WorkerTimes
from robustcls.models.stock import save_classifier
from robustcls.runs import Run, atomic, versions
from robustcls.training.assembling import Assembled, assemble
from robustcls.training.averaging import WeightAverage
from robustcls.training.checkpoints import EpochCheckpoint
from robustcls.training.choosing import choose, choose_side, fill
from robustcls.training.config import TrainConfig
from robustcls.training.findings import few_images, training_findings
from robustcls.training.progress import shown
from robustcls.training.unfreezing import PlateauUnfreezing
from robustcls.training.watching import ROBUST_ACCURACY, FiniteLoss, RobustnessWatch


def train(
    config: TrainConfig,
    out: Path | str,
    *,
    resume: bool = False,
    overwrite: bool = False,
    verbose: int = 1,
    distribute: str | None = None,
    devices: Sequence[str] = (),
    tracker: str | None = None,
) -> Run | None:
    """Trains the models of `config` and leaves them in the run folder `out`.

    All models start from the same weights and see the same batches in the same order, so what
    differs between them is the objective. (Interval bounds draw weights of their own from random
    ones.) A killed run goes on with `resume` from its last finished epoch to the same result.

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
        tracker: "mlflow" or "wandb" keeps a record of each model's training through its own
            callback; "tensorboard" is in the run in any case (str or None, default None).

    Returns:
        The run; None on workers that are not the chief.

    Raises:
        InputError: a setting is unusable, the tracker is not installed, `out` exists or is in use,
            the loss is no longer finite, a checkpoint is of another training, or a worker is
            missing, lost or has other settings or images.
    """
    require_tracker(tracker)
    # Of a run that goes on the chief may know settings that the others are not given.
    settings = {} if resume else config.to_dict()
    strategy = start(distribute, devices=devices, settings=settings)
    with telling_losses(strategy), ExitStack() as held:
        return _train_all(config, Path(out), resume, overwrite, verbose, strategy, tracker, held)


def _train_all(
    config: TrainConfig,
    out: Path,
    resume: bool,
    overwrite: bool,
    verbose: int,
    strategy: tf.distribute.Strategy,
    tracker: str | None,
    held: ExitStack,
) -> Run | None:
    with strategy.scope():
        verbose = verbose if is_chief() else 0
        kept = ask_chief(lambda: Run.open(out).config if resume and Run.is_at(out) else None)
        if kept is not None:
            config, resized = fill(config, kept.get("train", {})), ""
        else:
            config, resized = together(partial(choose_side, config))
        splits = together(partial(load_splits, config))
        require_same("data", splits.fingerprint)
        config, chosen = choose(config, len(splits.train))
        require_same("settings", config.to_dict())
        if int(config.batch_size or 0) % replica_count():
            raise InputError(
                f"batch_size must be a multiple of the number of devices, {replica_count()}; "
                f"received {config.batch_size}."
            )
    chosen = " ".join(filter(None, [resized, chosen]))
    # Every setting is tried before the folder is made and hours are spent.
    trainings = {}
    for name in config.models:
        keras.backend.clear_session()  # layers are numbered as if each model were alone
        with strategy.scope():
            trainings[name] = together(partial(assemble, name, config, splits))
    weights = {name: training.weights for name, training in trainings.items()}
    record = {
        "train": config.to_dict(),
        "data": {
            "source": splits.source,
            "fingerprint": splits.fingerprint,
            "class_names": list(splits.class_names),
            "image_shape": list(splits.image_shape),
            "skipped": list(splits.skipped),
        },
        "weights": weights,
        "seed": config.seed,
        **({"chosen": chosen} if chosen else {}),
        "versions": versions(),
    }
    with strategy.scope():
        creating = Run.creating(out, record, resume=resume, overwrite=overwrite)
        run = on_chief(lambda: held.enter_context(creating))
    if verbose:
        _say(*splits.left_out, chosen, few_images(splits.train.labels, splits.class_names))
    for name in config.models:
        with strategy.scope():
            if ask_chief((out / name / "model.keras").is_file):
                continue
            if verbose:
                print(f"Training {name} ({config.epochs} epochs)", flush=True)
            training = trainings.pop(name)
            recorded = tracker if is_chief() else None
            with tracked(recorded, out, name, config.to_dict()) as tracking:
                identity = f"{run.identity} {name}" if run is not None else ""
                _train_one(training, config, splits, out / name, identity, verbose, tracking)
        _save(training.base_model, out / name / "model.keras", strategy)
        del training
        # The graph of the first model would otherwise stay in memory beside the second.
        keras.backend.clear_session()
        gc.collect()
        if verbose:
            _say(*training_findings(name, out / name / "history.csv", splits))
    return run


def _say(*sentences: str | None) -> None:
    for words in sentences:
        if words:
            print(words, flush=True)


def load_splits(config: TrainConfig) -> Splits:
    """Loads the images that `config` names."""
    settings = dataclasses.asdict(config.data)
    return load(settings.pop("name"), **settings)


def _train_one(
    training: Assembled,
    config: TrainConfig,
    splits: Splits,
    folder: Path,
    identity: str,
    verbose: int,
    tracking: Sequence[keras.callbacks.Callback],
) -> None:
    unfreezing = None
    if config.unfreezing.patience:
        unfreezing = PlateauUnfreezing(**dataclasses.asdict(config.unfreezing), verbose=verbose)
    average = None
    if config.average_decay is not None:
        average = WeightAverage(config.average_decay)
        average.prepare(training.model)
    beside = average.variables if average else ()
    checkpoint = EpochCheckpoint(folder, unfreezing, beside, identity)
    first_epoch = checkpoint.restore(training.model)
    watch = _watch(training.model, config, splits, checkpoint)
    if watch is not None:
        checkpoint.keeping = watch.good_weights
    reached = checkpoint.reached(first_epoch)
    if verbose and reached:
        print(f"Resuming after {reached}", flush=True)
    if not tf.distribute.has_strategy():
        _make_variables(training.model, splits.num_classes)
    bars, lines = shown(verbose)
    times = WorkerTimes(folder / "workers.csv", bool(verbose)) if worker_count() > 1 else None
    board = None
    if is_chief():
        board = keras.callbacks.TensorBoard(str(folder / "tensorboard"), write_graph=False)
    callbacks: list[keras.callbacks.Callback | None]
    callbacks = [training.epoch, unfreezing, average, FiniteLoss(), watch, times, checkpoint, board]
    # A kill may have come after the epoch of a collapse, which is the last.
    epochs = first_epoch if watch and watch.collapsed else config.epochs
    with within_memory(config.batch_size), saving_first():
        for_workers(training.model).fit(
            training.batches,
            validation_data=evaluation_batches(splits.validation),
            epochs=epochs,
            initial_epoch=first_epoch,
            shuffle=False,
            callbacks=[
                *(callback for callback in callbacks if callback is not None),
                *tracking,
                *lines,
            ],
            verbose=bars,
        )
    if average is not None and not (watch and watch.collapsed):
        average.finish(training.batches)


def _save(model: keras.Model, path: Path, strategy: tf.distribute.Strategy) -> None:
    with strategy.scope():
        chief = is_chief()
    failed = None
    try:
        # Out of the scope, in which the layers that are saved would be made by all workers.
        if chief:
            with atomic(path) as temporary:
                check_finite_weights("model", model)
                save_classifier(model, temporary)
    except InputError as error:
        failed = error

    def tell() -> None:
        if failed is not None:
            raise failed

    with strategy.scope():
        together(tell)


def _make_variables(model: keras.Model, num_classes: int) -> None:
    """Makes what Keras makes while it traces the first step, and traces it once more for."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_weights)
    model.compute_metrics(
        None, np.zeros(1, np.int64), np.zeros((1, num_classes), np.float32), sample_weight=None
    )
    model.reset_metrics()


def _watch(
    model: keras.Model, config: TrainConfig, splits: Splits, checkpoint: EpochCheckpoint
) -> RobustnessWatch | None:
    """What ends the training when robustness collapses, for objectives that have a ball."""
    epsilon = getattr(getattr(model, "objective", None), "epsilon", None)
    count = min(config.watch_images, len(splits.validation))
    if epsilon is None or not count:
        return None
    chosen = splits.validation.take(np.linspace(0, len(splits.validation) - 1, count).astype(int))
    return RobustnessWatch(
        chosen.float_images(),
        chosen.labels,
        epsilon=epsilon,
        history=[row[ROBUST_ACCURACY] for row in checkpoint.history if ROBUST_ACCURACY in row],
        good_weights=checkpoint.kept,
        seed=config.seed,
    )
