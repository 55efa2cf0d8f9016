"""The adversarial loss alone, for training loops of one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from robustcls.training.adversarial.neighbours import Neighbours, floats
from robustcls.training.batches import arranged


def adversarial_loss(
    features: Any,
    labels: Any,
    model: Callable[..., Any],
    loss_fn: Callable[..., tf.Tensor],
    sample_weights: Any = None,
    *,
    predictions: Any = None,
    labeled_loss: tf.Tensor | None = None,
    gradient_tape: tf.GradientTape | None = None,
    model_kwargs: dict[str, Any] | None = None,
    **settings: Any,
) -> tf.Tensor:
    """Returns the loss of the adversarial neighbours of a batch, a float scalar.

    As `nsl.keras.adversarial_loss`, with the settings of `AdversarialRegularization` in place of
    NSL's configuration. Nothing is clipped unless `clip_value_min` or `clip_value_max` is set.

    Args:
        features: a float tensor, a list of tensors or a dictionary, as `model` takes them.
        labels: as `loss_fn` takes them.
        model: a function of features to outputs.
        loss_fn: a Keras loss, or a function of labels, outputs and sample weights.
        sample_weights: [N] (default None).
        predictions: outputs for `features`, if they are known; with `gradient_tape`, which has
            watched the features (default None).
        labeled_loss: their loss, if it is known; with `gradient_tape` (default None).
        gradient_tape: that has watched the features and all that follows (default None).
        model_kwargs: arguments of `model`, for example `{"training": True}` (default None).
        **settings: `step_size`, `grad_norm`, `iterations`, `epsilon`, `random_start`,
            `feature_mask`, `clip_value_min`, `clip_value_max`, or NSL's names for them.

    Raises:
        InputError: there is no such setting, or one is out of its range.

    Example:
        >>> with tf.GradientTape() as tape:
        ...     loss = loss_fn(labels, model(images))
        ...     loss += 0.2 * adversarial_loss(images, labels, model, loss_fn, step_size=8 / 255)
    """
    neighbours = Neighbours().changed(settings)
    arguments = model_kwargs or {}
    features = keras.tree.map_structure(tf.convert_to_tensor, features)
    if isinstance(features, Mapping):
        features = arranged(model, features)
    moving = floats(features)

    def loss_of(points: Any) -> tf.Tensor:
        return loss_fn(labels, model(points, **arguments), sample_weights)

    gradients = None
    if not neighbours.random_start:
        tape = gradient_tape if gradient_tape is not None else tf.GradientTape()
        if labeled_loss is None:
            with tape:
                tape.watch(moving)
                if predictions is None:
                    predictions = model(features, **arguments)
                labeled_loss = loss_fn(labels, predictions, sample_weights)
        gradients = tape.gradient(labeled_loss, moving)
    return loss_of(neighbours.of(features, gradients, loss_of, keras.random.SeedGenerator(0).next))
