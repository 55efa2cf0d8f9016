"""`MemoryModule`: replaces features by what a memory of normal ones has to offer."""

from __future__ import annotations

from typing import Annotated, Any

import keras
import numpy as np
import tensorflow as tf

from robustcls._settings import Choice, Range, checked
from robustcls.models.stock import weighted

_SMALLEST = 1e-12

ItemCount = Annotated[int, Range(minimum=2)]
Shrinkage = Annotated[float, Range(minimum=0, below=1)]
Similarity = Annotated[str, Choice(("cosine", "dot"))]


@keras.saving.register_keras_serializable(package="anomaly")
class MemoryModule(keras.layers.Layer):
    """Reads each feature vector anew from a memory of items, addressed by likeness.

    A query z is compared with all items, w = softmax(z Mᵀ). Hard shrinkage drops addresses up to
    `shrinkage`, ŵ = max(w - λ, 0) w / (|w - λ| + ε), and what is left is normalized to a sum of 1
    and reads ẑ = ŵ M. While λ is at most 1 / items, at least one item is left unless all are
    equally alike.

    Args:
        items: items in the memory (int >= 2).
        shrinkage: λ; 0 keeps all addresses (float in [0, 1), default 0.0025).
        similarity: "dot" as the authors' code, or "cosine" as their text ("cosine" or "dot",
            default "dot").
        seed: of the items (int, default 0).

    Input shape: [N, ..., C] of rank 3 (sequence), 4 (image) or 5 (clip); a query each position.
    Output shape: the input's, and the addresses [N, ..., items], float, ≥ 0 with sum 1.

    Raises:
        InputError: a setting out of range.

    Example:
        >>> read, addresses = MemoryModule(items=100, shrinkage=0.01)(tf.ones((2, 3, 3, 64)))
        >>> read.shape, addresses.shape
        (TensorShape([2, 3, 3, 64]), TensorShape([2, 3, 3, 100]))

    Reference: Gong et al., 2019, "Memorizing Normality to Detect Anomaly: Memory-augmented Deep
    Autoencoder for Unsupervised Anomaly Detection", section 3.3, equations 3 to 7.
    """

    @checked
    def __init__(
        self,
        items: ItemCount,
        shrinkage: Shrinkage = 0.0025,
        similarity: Similarity = "dot",
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.items = items
        self.shrinkage = shrinkage
        self.similarity = similarity
        self.seed = seed

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        channels = int(input_shape[-1] or 0)
        bound = channels**-0.5
        self.memory = self.add_weight(
            name="memory",
            shape=(self.items, channels),
            initializer=keras.initializers.RandomUniform(-bound, bound, seed=self.seed),
        )

    def call(self, inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Reads the memory; see the class."""
        memory = tf.convert_to_tensor(self.memory)
        queries, keys = inputs, memory
        if self.similarity == "cosine":
            queries, keys = tf.nn.l2_normalize(queries, -1), tf.nn.l2_normalize(keys, -1)
        addresses = tf.nn.softmax(tf.tensordot(queries, keys, [[-1], [1]]))
        if self.shrinkage:
            above = addresses - self.shrinkage
            addresses = tf.nn.relu(above) * addresses / (tf.abs(above) + _SMALLEST)
            total = tf.reduce_sum(addresses, -1, keepdims=True)
            addresses = addresses / tf.maximum(total, _SMALLEST)
        return tf.tensordot(addresses, memory, [[-1], [0]]), addresses

    def in_stock_layers(self, inputs: Any) -> tuple[Any, Any]:
        """As `call`, for `save_classifier`.

        Args:
            inputs: as of `call`.
        """
        queries, keys = inputs, self.memory
        if self.similarity == "cosine":
            keys = tf.nn.l2_normalize(tf.convert_to_tensor(keys), -1)
            length = keras.ops.sum(keras.ops.square(queries), -1, keepdims=True)
            queries = queries * keras.ops.rsqrt(keras.ops.maximum(length, _SMALLEST))
        likeness = keras.layers.Dense(
            self.items, use_bias=False, dtype=self.dtype_policy, name=f"{self.name}_likeness"
        )
        addresses = keras.ops.softmax(weighted(likeness, queries, np.transpose(keys)))
        if self.shrinkage:
            above = addresses - self.shrinkage
            addresses = keras.ops.relu(above) * addresses / (keras.ops.abs(above) + _SMALLEST)
            total = keras.ops.sum(addresses, -1, keepdims=True)
            addresses = addresses / keras.ops.maximum(total, _SMALLEST)
        reading = keras.layers.Dense(
            inputs.shape[-1], use_bias=False, dtype=self.dtype_policy, name=self.name
        )
        return weighted(reading, addresses, self.memory), addresses

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        return tuple(input_shape), (*input_shape[:-1], self.items)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "items": self.items,
            "shrinkage": self.shrinkage,
            "similarity": self.similarity,
            "seed": self.seed,
        }


def address_entropy(addresses: tf.Tensor) -> tf.Tensor:
    """Returns the entropy of each query's addresses in nats, [...] from [..., items]."""
    return -tf.reduce_sum(addresses * tf.math.log(tf.maximum(addresses, _SMALLEST)), -1)


@keras.saving.register_keras_serializable(package="anomaly")
class MemoryUsage(keras.metrics.Metric):
    """The number of items in use: exp of the entropy of the addresses' mean over an epoch.

    It is `items` when all serve alike, 1 when one item serves every query, and 0 when no query
    reads anything. The last two are a collapsed memory.

    Args:
        items: items in the memory, an integer ≥ 2. No default.
        name: of the metric. Default "memory_usage".
    """

    def __init__(self, items: int, name: str = "memory_usage", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.items = items
        self.total = self.add_variable((items,), "zeros", name="total")

    def update_state(self, addresses: tf.Tensor) -> None:
        """Adds a batch of addresses [..., items]."""
        self.total.assign_add(tf.reduce_sum(tf.reshape(addresses, [-1, self.items]), 0))

    def result(self) -> tf.Tensor:
        total = tf.convert_to_tensor(self.total)
        whole = tf.reduce_sum(total)
        used = tf.exp(address_entropy(total / tf.maximum(whole, _SMALLEST)))
        return tf.where(whole > 0, used, tf.zeros_like(used))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "items": self.items}
