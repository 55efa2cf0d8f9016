"""`DistanceToCenter`: how far features are from the centre of a sphere around normal ones."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robustcls.models.stock import shift

# A centre at zero could be reached by weights that are all zero.
_FARTHEST_FROM_ZERO = 0.1


@keras.saving.register_keras_serializable(package="anomaly")
class DistanceToCenter(keras.layers.Layer):
    """Squared distance of feature vectors to a fixed centre.

    Input shape: [N, D]. Output shape: [N], ≥ 0.

    Reference: Ruff et al., 2018, "Deep One-Class Classification", section 3.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.center = self.add_weight(
            name="center", shape=(input_shape[-1],), initializer="zeros", trainable=False
        )

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.math.squared_difference(inputs, self.center), -1)

    def in_stock_layers(self, inputs: Any) -> Any:
        """As `call`, for `save_classifier`."""
        offset = shift(inputs, -np.asarray(self.center), self.name, self.dtype_policy)
        return keras.ops.sum(keras.ops.square(offset), -1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        return tuple(input_shape[:-1])

    def set_center(self, features: np.ndarray) -> None:
        """Puts the centre at the mean of features [N, D], no coordinate nearer to 0 than 0.1."""
        mean = features.mean(0)
        side = np.where(mean < 0, -1.0, 1.0)
        self.center.assign(side * np.maximum(np.abs(mean), _FARTHEST_FROM_ZERO))
