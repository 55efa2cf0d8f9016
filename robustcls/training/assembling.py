"""A training put together from its settings: model, optimizer, batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from robustcls._validation import InputError, check_choice
from robustcls.data.augment import AugmentationPolicy
from robustcls.data.pipeline import train_batches
from robustcls.data.splits import Splits
from robustcls.models.building import build_classifier
from robustcls.training.adversarial.regularization import AdversarialRegularization
from robustcls.training.config import OptimizerConfig, TrainConfig
from robustcls.training.objectives.objective import Objective
from robustcls.training.objectives.registry import OBJECTIVES
from robustcls.training.robust_trainer import RobustTrainer


class Epoch(keras.callbacks.Callback, Iterator[int]):
    """Tells the input pipeline which epoch it is, so that a resumed one sees the same batches."""

    def __init__(self) -> None:
        super().__init__()
        self.current = 0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.current = epoch

    def __next__(self) -> int:
        return self.current


@dataclass(frozen=True)
class Assembled:
    """What `fit` needs: the compiled trainer, the model inside it, its batches."""

    model: keras.Model
    base_model: keras.Model
    batches: tf.data.Dataset
    epoch: Epoch

    @property
    def weights(self) -> str:
        """Where the model's weights come from."""
        return self.base_model.weights_source


def assemble(name: str, config: TrainConfig, splits: Splits) -> Assembled:
    """Puts the training of one model together.

    Args:
        name: "base", "adversarial" or an objective's.
        config: the settings of the run.
        splits: the images.

    Raises:
        InputError: a setting is unusable.
    """
    epoch = Epoch()
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
        objective.check_epochs(int(config.epochs or 0))
        objective.prepare(base_model, config.seed, config.model.weights is None)
        model = RobustTrainer(base_model, objective, seed=config.seed)
        steps *= objective.weight_steps
    model.compile(
        optimizer=_optimizer(config.optimizer, steps),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return Assembled(model, base_model, batches, epoch)


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
