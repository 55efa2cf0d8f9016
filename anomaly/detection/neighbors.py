"""`NeighborDistance`: how far codes are from the nearest ones of normal images."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robustcls.models.stock import shift, weighted

# Farther than any code is, and its square still a float.
_UNUSED = 1e18


@keras.saving.register_keras_serializable(package="anomaly")
class NeighborDistance(keras.layers.Layer):
    """Distance of each code to the k-th nearest of those that `adapt` got; 1 before.

    Args:
        neighbors: k, an integer ≥ 1. No default.
        count: codes to keep at most, an integer ≥ k. Default 3000.

    Input shape: [N, D]. Output shape: [N], ≥ 0.
    """

    def __init__(self, neighbors: int, count: int = 3000, **kwargs: Any) -> None:
        super().__init__(trainable=False, **kwargs)
        self.neighbors = neighbors
        self.count = count

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape = (self.count, input_shape[-1])
        self.codes = self.add_weight(name="codes", shape=shape, initializer="zeros")
        self.center = self.add_weight(name="center", shape=shape[1:], initializer="zeros")
        self.used = self.add_weight(name="used", shape=(), initializer="zeros")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        codes = tf.convert_to_tensor(self.codes)
        queries = inputs - self.center
        squares = tf.reduce_sum(codes**2, -1) - 2 * tf.matmul(queries, codes, transpose_b=True)
        unused = tf.cast(tf.range(self.count), tf.float32) >= self.used
        _, nearest = tf.math.top_k(-tf.where(unused, _UNUSED, squares), self.neighbors)
        # The difference anew: squares would leave little more than rounding of small distances.
        found = tf.norm(queries - tf.gather(codes, nearest[:, -1]), axis=-1)
        return tf.where(self.used > 0, found, tf.ones_like(found))

    def in_stock_layers(self, inputs: Any) -> Any:
        """As `call`, for `save_classifier`; unused codes are left out."""
        codes = np.asarray(self.codes)[: int(self.used)]
        if not len(codes):
            return keras.ops.ones_like(keras.ops.sum(inputs, -1))
        settings = {"dtype": self.dtype_policy, "trainable": False}
        queries = shift(inputs, -np.asarray(self.center), self.name, self.dtype_policy)
        nearness = keras.layers.Dense(len(codes), name=f"{self.name}_nearness", **settings)
        near = weighted(nearness, queries, 2 * codes.T, -np.sum(codes**2, -1))
        _, nearest = keras.ops.top_k(near, self.neighbors)
        items = keras.layers.Embedding(*codes.shape, name=f"{self.name}_codes", **settings)
        found = weighted(items, keras.ops.take(nearest, self.neighbors - 1, -1), codes)
        return keras.ops.norm(queries - found, axis=-1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        return tuple(input_shape[:-1])

    def adapt(self, codes: np.ndarray, seed: int = 0) -> None:
        """Keeps codes [M, D], M at least `neighbors`; of more than `count`, that many drawn."""
        if len(codes) > self.count:
            chosen = np.random.default_rng(seed).permutation(len(codes))[: self.count]
            codes = codes[np.sort(chosen)]
        self.center.assign(codes.mean(0))
        # Around zero, where the squares are smallest and most exact.
        codes = codes - self.center.numpy()
        self.codes.assign(np.pad(codes, ((0, self.count - len(codes)), (0, 0))))
        self.used.assign(len(codes))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "neighbors": self.neighbors, "count": self.count}
