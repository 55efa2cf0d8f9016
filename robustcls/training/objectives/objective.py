"""What a robust training objective is: it says how the loss of a batch is made."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import tensorflow as tf

from robustcls._validation import InputError
from robustcls.training.objectives.registry import OBJECTIVES


@dataclass(frozen=True)
class Batch:
    """What an objective sees of a step.

    Attributes:
        images: float32 [N, H, W, C] in [0, 1].
        labels: int64 [N].
        model: the model that is trained.
        inputs: images in [0, 1] as the model takes them.
        scores: what the model returns as logits.
        draw: returns a new seed, int32 [2], for `tf.random.stateless_*`.
        epoch: float32 scalar, epochs done so far with the share of the present one.
        epochs: float32 scalar, epochs of the whole training.
        scale_loss: what the optimizer does to a loss before its gradient is taken; in half
            precision small gradients would vanish without. Attacks go by directions alone.
        keep: returns the variable of a name, float32 of the images' shape, 0 at the beginning
            of each epoch; for what an objective carries from batch to batch.
    """

    images: tf.Tensor
    labels: tf.Tensor
    model: keras.Model
    inputs: Callable[[tf.Tensor], tf.Tensor]
    scores: Callable[[tf.Tensor], tf.Tensor]
    draw: Callable[[], tf.Tensor]
    epoch: tf.Tensor
    epochs: tf.Tensor
    scale_loss: Callable[[tf.Tensor], tf.Tensor]
    keep: Callable[[str], tf.Variable]

    def logits(self, images: tf.Tensor, *, training: bool) -> tf.Tensor:
        """Returns the model's logits, float32 [N, classes].

        Args:
            images: float32 [N, H, W, C].
            training: batch norm and dropout as in training.
        """
        outputs = self.model(self.inputs(images), training=training)
        return tf.cast(self.scores(outputs), tf.float32)


@dataclass(frozen=True, kw_only=True)
class Objective(abc.ABC):
    """How the loss of a batch is made.

    A subclass is a frozen dataclass of its settings and defines `loss`. With a class attribute
    `name` it is known by that name, from its definition on, to `robustcls train --objective`
    and to `models` and `objectives` of a configuration.

    Attributes:
        name: in configurations and reports.

    Example:
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Brightness(Objective):
        ...     name = "brightness"
        ...     shift: float = 0.1
        ...
        ...     def loss(self, batch):
        ...         logits = batch.logits(batch.images + self.shift, training=True)
        ...         return cross_entropy(logits, batch.labels), logits
    """

    name: ClassVar[str] = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__dict__.get("name"):
            OBJECTIVES.add(cls.name, cls)

    @property
    def weight_steps(self) -> int:
        """Steps of the weights for each batch."""
        return 1

    @property
    def schedule_epochs(self) -> float:
        """Epochs until the loss is what the settings say, as after a warm-up and a ramp."""
        return 0.0

    def check_epochs(self, epochs: int) -> None:
        """Refuses a training that ends before the schedule does.

        Args:
            epochs: of the whole training.

        Raises:
            InputError: `schedule_epochs` are more.
        """
        if self.schedule_epochs > epochs:
            parts = [
                f"{field.name} {getattr(self, field.name):g}"
                for field in dataclasses.fields(self)
                if field.name.endswith("_epochs")
            ]
            raise InputError(
                f"epochs must be at least {math.ceil(self.schedule_epochs)} for {self.name}, "
                f"whose schedule takes so many ({', '.join(parts)}); received {epochs}. Did you "
                "mean a shorter one?"
            )

    @abc.abstractmethod
    def loss(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the loss of each image, float32 [N], and logits, float32 [N, classes].

        The trainer takes the mean of the losses and its gradient with respect to the weights;
        the logits are what the compiled metrics see while training.

        Args:
            batch: the images and all else that a step has.
        """

    def prepare(  # noqa: B027
        self, model: keras.Model, seed: int, fresh: bool
    ) -> None:
        """Is given the model before a training: to refuse it, or to draw other random weights.

        Args:
            model: the base model.
            seed: of the training.
            fresh: its weights are random.
        """

    def start(self, batch: Batch) -> tf.Tensor | None:
        """Returns images to give `loss` in place of the batch's, or None.

        The gradient of the loss with respect to them then goes to `moved`.

        Args:
            batch: the images and all else that a step has.
        """
        return None

    def moved(self, batch: Batch, gradient: tf.Tensor) -> None:  # noqa: B027
        """Is told what the backward pass of the weights found for the images of `start`.

        Args:
            batch: as `start` had it.
            gradient: float32 [N, H, W, C], of the mean loss.
        """


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns the cross-entropy of each image, float32 [N].

    Args:
        logits: float32 [N, classes].
        labels: int64 [N].
    """
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def divergence(logits: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Returns the Kullback-Leibler divergence KL(p ‖ q) of each image, float32 [N].

    Args:
        logits: of p, float32 [N, classes].
        others: of q, float32 [N, classes].
    """
    log_p, log_q = tf.nn.log_softmax(logits), tf.nn.log_softmax(others)
    return tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), -1)


def found_gradient(gradient: tf.Tensor | None) -> tf.Tensor:
    """Returns a gradient with respect to images, which must be there.

    Args:
        gradient: what a tape found.

    Raises:
        InputError: it is None, as of a model that rounds its pixels.
    """
    if gradient is None:
        raise InputError(
            "base_model must be differentiable; its loss has no gradient with respect to the "
            "images."
        )
    return gradient
