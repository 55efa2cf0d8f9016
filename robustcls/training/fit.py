"""From a `TrainConfig` to a run folder with trained models."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robustcls._validation import InputError, check_choice
from robustcls.data.augment import AugmentationPolicy
from robustcls.data.pipeline import evaluation_batches, train_batches
from robustcls.data.sources import load
from robustcls.data.splits import Splits
from robustcls.models.building import build_classifier
from robustcls.models.stock import save_classifier
from robustcls.runs import Run, atomic, versions
from robustcls.training.adversarial.regularization import AdversarialRegularization
from robustcls.training.averaging import WeightAverage
from robustcls.training.checkpoints import EpochCheckpoint
from robustcls.training.choosing import choose, choose_side, fill
from robustcls.training.config import OptimizerConfig, TrainConfig
from robustcls.training.findings import few_images, training_findings
from robustcls.training.objectives.objective import Objective
from robustcls.training.objectives.registry import OBJECTIVES
from robustcls.training.progress import shown
from robustcls.training.robust_trainer import RobustTrainer
from robustcls.training.unfreezing import PlateauUnfreezing
from robustcls.training.watching import ROBUST_ACCURACY, FiniteLoss, RobustnessWatch


def train(
    config: TrainConfig,
    out: Path | str,
    *,
    resume: bool = False,
    overwrite: bool = False,
    verbose: int = 1,
) -> Run:
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

    Raises:
        InputError: a setting is unusable, `out` exists, or the loss is no longer finite.
    """
    if resume and Run.is_at(out):
        config, resized = fill(config, Run.open(out).config.get("train", {})), ""
    else:
        config, resized = choose_side(config)
    splits = load_splits(config)
    config, chosen = choose(config, len(splits.train))
    chosen = " ".join(filter(None, [resized, chosen]))
    # Every setting is tried before the folder is made and hours are spent.
    trainings = {}
    for name in config.models:
        keras.backend.clear_session()  # layers are numbered as if each model were alone
        trainings[name] = _assemble(name, config, splits)
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
    run = Run.create(out, record, resume=resume, overwrite=overwrite)
    if verbose and splits.skipped:
        print(f"Left out, as unreadable: {', '.join(splits.skipped)}", flush=True)
    if verbose:
        _say(chosen, few_images(splits.train.labels, splits.class_names))
    for name in config.models:
        if (run.folder(name) / "model.keras").is_file():
            continue
        if verbose:
            print(f"Training {name} ({config.epochs} epochs)", flush=True)
        _train_one(trainings.pop(name), config, splits, run.folder(name), verbose)
        # The graph of the first model would otherwise stay in memory beside the second.
        keras.backend.clear_session()
        gc.collect()
        if verbose:
            _say(*training_findings(name, run.folder(name) / "history.csv", splits))
    return run


def _say(*sentences: str | None) -> None:
    for words in sentences:
        if words:
            print(words, flush=True)


def load_splits(config: TrainConfig) -> Splits:
    """Loads the images that `config` names."""
    settings = dataclasses.asdict(config.data)
    return load(settings.pop("name"), **settings)


class _Epoch(keras.callbacks.Callback, Iterator[int]):
    """Tells the input pipeline which epoch it is, so that a resumed one sees the same batches."""

    def __init__(self) -> None:
        super().__init__()
        self.current = 0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.current = epoch

    def __next__(self) -> int:
        return self.current


@dataclass(frozen=True)
class _Training:
    """What `fit` needs: the compiled trainer, the model inside it, its batches."""

    model: keras.Model
    base_model: keras.Model
    batches: tf.data.Dataset
    epoch: _Epoch

    @property
    def weights(self) -> str:
        return self.base_model.weights_source


def _assemble(name: str, config: TrainConfig, splits: Splits) -> _Training:
    epoch = _Epoch()
    policy = None
    if config.augmentation is not None:
        policy = AugmentationPolicy.from_config(config.augmentation)
    batches = train_batches(
        splits, policy, batch_size=int(config.batch_size or 0), seed=config.seed, epochs=epoch
    )
    base_model = build_classifier(
        **dataclasses.asdict(config.model),
        input_shape=splits.image_shape,
        num_classes=splits.num_classes,
        seed=config.seed,
    )
    model = base_model
    steps = int(config.epochs or 0) * len(batches)
    if name == "adversarial":
        model = AdversarialRegularization(
            base_model, **dataclasses.asdict(config.adversarial), seed=config.seed
        )
    elif name != "base":
        objective = objective_of(name, config.objectives.get(name, {}))
        if objective.weight_steps > int(config.batch_size or 0):
            raise InputError(
                f"objectives.{name} must take at most batch_size steps of the weights for a batch, "
                f"{config.batch_size}; received {objective.weight_steps}."
            )
        objective.prepare(base_model, config.seed, config.model.weights is None)
        model = RobustTrainer(base_model, objective, seed=config.seed)
        steps *= objective.weight_steps
    model.compile(
        optimizer=_optimizer(config.optimizer, steps),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return _Training(model, base_model, batches, epoch)


def _train_one(
    training: _Training, config: TrainConfig, splits: Splits, folder: Path, verbose: int
) -> None:
    unfreezing = None
    if config.unfreezing.patience:
        unfreezing = PlateauUnfreezing(**dataclasses.asdict(config.unfreezing), verbose=verbose)
    average = None
    if config.average_decay is not None:
        average = WeightAverage(config.average_decay)
        average.prepare(training.model)
    checkpoint = EpochCheckpoint(folder, unfreezing, average.variables if average else ())
    first_epoch = checkpoint.restore(training.model)
    watch = _watch(training.model, config, splits, checkpoint)
    if verbose and first_epoch:
        print(f"Resuming after epoch {first_epoch}", flush=True)
    _make_variables(training.model, splits.num_classes)
    bars, lines = shown(verbose)
    callbacks = [training.epoch, unfreezing, average, FiniteLoss(), watch, checkpoint]
    training.model.fit(
        training.batches,
        validation_data=evaluation_batches(splits.validation),
        epochs=config.epochs,
        initial_epoch=first_epoch,
        shuffle=False,
        callbacks=[
            *(callback for callback in callbacks if callback is not None),
            keras.callbacks.TensorBoard(str(folder / "tensorboard"), write_graph=False),
            *lines,
        ],
        verbose=bars,
    )
    if average is not None and not (watch and watch.collapsed):
        average.finish(training.batches)
    with atomic(folder / "model.keras") as path:
        save_classifier(training.base_model, path)


def _make_variables(model: keras.Model, num_classes: int) -> None:
    """Makes what Keras makes while it traces the first step, and traces it once more for."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_weights)
    model.compute_metrics(
        None, np.zeros(1, np.int64), np.zeros((1, num_classes), np.float32), sample_weight=None
    )
    model.reset_metrics()


def objective_of(name: str, settings: Mapping[str, Any]) -> Objective:
    """Returns an objective by its name.

    Args:
        name: of `OBJECTIVES`.
        settings: its fields; what is left out has its default.

    Raises:
        InputError: there is no objective or setting of that name, or one is out of its range.
    """
    kind = OBJECTIVES.find(name)
    for setting in settings:
        check_choice(f"objectives.{name}", setting, (f.name for f in dataclasses.fields(kind)))
    return kind(**settings)


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
        seed=config.seed,
    )


def _optimizer(config: OptimizerConfig, steps: int) -> keras.optimizers.Optimizer:
    warmup = int(config.warmup * steps)
    rate = float(config.learning_rate or 0)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else rate,
        decay_steps=max(steps - warmup, 1),
        warmup_target=rate if warmup else None,
        warmup_steps=warmup,
    )
    return keras.optimizers.SGD(
        schedule,
        momentum=config.momentum,
        nesterov=config.momentum > 0,
        weight_decay=config.weight_decay or None,
    )
