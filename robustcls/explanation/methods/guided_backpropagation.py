"""Guided backpropagation."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robustcls._validation import InputError
from robustcls.explanation.methods.maps import Maps
from robustcls.explanation.methods.registry import register_explanation

_RELUS = ("relu", "relu6")


@register_explanation()
def guided_backpropagation(explainer: Any, images: np.ndarray, classes: np.ndarray) -> Maps:
    """As `gradients`, with negative gradients stopped at every ReLU on the way back.

    Its maps look sharp for a reason that has little to do with the class: they restore the image's
    edges, and change little with the weights of the upper layers. Believe what the tests of the
    report say of it, not its looks (Adebayo et al., "Sanity checks for saliency maps", 2018; Nie
    et al., "A theoretical explanation for perplexing behaviors of backpropagation-based
    visualizations", 2018).

    Source: Springenberg et al., "Striving for simplicity: the all convolutional net", 2014,
    section 3.4.
    """
    network = explainer.network("guided_backpropagation")
    if not any(map(_ends_in_relu, network.operations)):
        raise InputError(
            f"model must have ReLUs for guided_backpropagation; '{network.name}' has none. Did you "
            "mean methods=['gradients']?"
        )

    def gradients(images: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            found = network._run_through_graph([images], call_fn=_guided)
            score = tf.gather(tf.nest.flatten(found)[0], classes, batch_dims=1)
        gradient = tape.gradient(score, images)
        if gradient is None:
            raise InputError(
                "model must be differentiable; its logits have no gradient with respect to the "
                "images."
            )
        return gradient

    found = explainer.compiled("guided_backpropagation", gradients, images)(images, classes).numpy()
    return Maps(np.maximum(found, 0).max(-1), np.maximum(-found, 0).max(-1))


def _guided(operation: Any, *arguments: Any, **settings: Any) -> Any:
    outputs = operation(*arguments, **settings)
    return _only_positive(outputs) if _ends_in_relu(operation) else outputs


@tf.custom_gradient
def _only_positive(values: tf.Tensor) -> Any:
    """The values as they are; what of their gradient is positive."""
    return tf.identity(values), tf.nn.relu


def _ends_in_relu(operation: Any) -> bool:
    if isinstance(operation, keras.layers.ReLU):
        return True
    activation = getattr(operation, "activation", None)
    return getattr(activation, "__name__", type(operation).__name__.lower()) in _RELUS
