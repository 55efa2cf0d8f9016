"""What tf-keras-vis takes for a Keras model."""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf


class LogitsModel:
    """A function of images to logits, as tf-keras-vis calls a Keras model.

    Args:
        logits: images float32 [N, H, W, C] to logits [N, classes].
        image_shape: (H, W, C).
    """

    def __init__(
        self, logits: Callable[[tf.Tensor], tf.Tensor], image_shape: tuple[int, ...]
    ) -> None:
        self.inputs = [tf.TensorSpec([None, *image_shape], tf.float32, name="images")]
        self.outputs = [None]
        self.layers: list[keras.layers.Layer] = []
        self._logits = logits

    def __call__(self, inputs: list[tf.Tensor], training: bool = False) -> list[tf.Tensor]:
        del training  # tf-keras-vis names it; the logits are those of inference
        return [self._logits(inputs[0])]
