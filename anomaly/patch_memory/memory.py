"""`Memory`: patches of normal images, and how far others are from them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robustcls._progress import tqdm
from robustcls.models.stock import shift, weighted

# Farther than any patch is, and its square still a float.
_UNUSED = 1e18


@keras.saving.register_keras_serializable(package="anomaly")
class Memory(keras.layers.Layer):
    """Distances of patches to the nearest remembered ones.

    Args:
        count: patches to remember at most.
        neighbors: remembered patches that an image's score is weighed by, ≥ 1.

    Input shape: [N, H, W, D]. Output shapes: distances [N, H, W] and scores [N].
    """

    def __init__(self, count: int, neighbors: int, **kwargs: Any) -> None:
        super().__init__(trainable=False, **kwargs)
        self.count = count
        self.neighbors = neighbors

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        size = input_shape[-1]
        self.mean = self.add_weight(name="mean", shape=(size,), initializer="zeros")
        self.rotation = self.add_weight(name="rotation", shape=(size, size), initializer="identity")
        self.patches = self.add_weight(
            name="patches", shape=(self.count, size), initializer="zeros"
        )
        self.used = self.add_weight(name="used", shape=(), initializer="zeros")

    def call(self, inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        shape = tf.shape(inputs)
        flat = tf.reshape(inputs, [shape[0], -1, inputs.shape[-1]]) - self.mean
        flat = tf.einsum("npd,de->npe", flat, tf.convert_to_tensor(self.rotation))
        memory = tf.convert_to_tensor(self.patches)

        def one(patches: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            # Image by image, or a batch's distances to all that is remembered fill the memory.
            nearest = tf.argmin(self._squares(patches, memory), -1)
            distances = tf.norm(patches - tf.gather(memory, nearest), axis=-1)
            worst = tf.argmax(distances)
            return distances, self._weighed(
                patches[worst], memory, nearest[worst], distances[worst]
            )

        distances, scores = tf.map_fn(one, flat, fn_output_signature=(tf.float32, tf.float32))
        return tf.reshape(distances, shape[:3]), scores

    def _squares(self, patches: tf.Tensor, memory: tf.Tensor) -> tf.Tensor:
        """Squared distances but for a constant of each patch, [P, count]."""
        squares = tf.reduce_sum(memory**2, -1) - 2 * tf.matmul(patches, memory, transpose_b=True)
        unused = tf.cast(tf.range(self.count), tf.float32) >= self.used
        return tf.where(unused, _UNUSED, squares)

    def _weighed(
        self, patch: tf.Tensor, memory: tf.Tensor, nearest: tf.Tensor, distance: tf.Tensor
    ) -> tf.Tensor:
        """Equation 7: 1 - softmax of the distances to the neighbours of the nearest, times it."""
        if self.neighbors == 1:
            return distance
        center = tf.gather(memory, nearest)
        _, around = tf.math.top_k(-self._squares(center[None], memory)[0], self.neighbors)
        others = tf.norm(patch - tf.gather(memory, around), axis=-1)
        return distance * (1 - tf.exp(distance - tf.reduce_logsumexp(others)))

    def in_stock_layers(self, inputs: Any) -> tuple[Any, Any]:
        """As `call`, for `save_classifier`; unused patches are left out.

        Args:
            inputs: as of `call`.
        """
        _, height, width, size = inputs.shape
        memory = np.asarray(self.patches)[: max(int(self.used), self.neighbors)]
        settings = {"dtype": self.dtype_policy, "trainable": False}
        rotate = keras.layers.Dense(size, use_bias=False, name=f"{self.name}_rotation", **settings)
        nearness = keras.layers.Dense(len(memory), name=f"{self.name}_nearness", **settings)
        items = keras.layers.Embedding(*memory.shape, name=f"{self.name}_patches", **settings)

        flat = keras.ops.reshape(inputs, (-1, height * width, size))
        flat = shift(flat, -np.asarray(self.mean), self.name, self.dtype_policy)
        flat = weighted(rotate, flat, self.rotation)
        near = weighted(nearness, flat, 2 * memory.T, -np.sum(memory**2, -1))
        found = weighted(items, keras.ops.argmax(near, -1), memory)
        distances = keras.ops.norm(flat - found, axis=-1)
        whole = keras.ops.reshape(distances, (-1, height, width))
        distance = keras.ops.max(distances, -1)
        if self.neighbors == 1:
            return whole, distance
        worst = keras.ops.one_hot(keras.ops.argmax(distances, -1), height * width)[..., None]
        patch, center = keras.ops.sum(flat * worst, 1), keras.ops.sum(found * worst, 1)
        _, around = keras.ops.top_k(nearness(center), self.neighbors)
        others = keras.ops.norm(keras.ops.expand_dims(patch, 1) - items(around), axis=-1)
        share = keras.ops.exp(distance - keras.ops.logsumexp(others, -1))
        return whole, distance * (1 - share)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        return tuple(input_shape[:-1]), tuple(input_shape[:1])

    def scale(self, patches: np.ndarray, *, whiten: bool) -> np.ndarray:
        """Learns the mean of patches, and their rotation to white; returns them so, [M, D].

        Args:
            patches: float32 [M, D], which are centred in place.
            whiten: rotate and scale them to one variance; else they are centred alone.
        """
        self.mean.assign(patches.mean(0))
        patches -= self.mean.numpy()
        if whiten:
            covariance = patches.T @ patches / len(patches)
            values, vectors = np.linalg.eigh(covariance.astype(np.float64))
            # Directions of next to no variance are noise.
            scales = 1 / np.sqrt(values + 1e-3 * values.mean())
            self.rotation.assign((vectors * scales).astype(np.float32))
            patches = patches @ self.rotation.numpy()
        return patches

    def remember(self, patches: np.ndarray) -> None:
        """Keeps patches.

        Args:
            patches: float32 [M, D], M at most `count`, as `scale` returned them.
        """
        padding = ((0, self.count - len(patches)), (0, 0))
        self.patches.assign(np.pad(patches, padding))
        self.used.assign(len(patches))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "count": self.count, "neighbors": self.neighbors}


def greedy_coreset(
    patches: np.ndarray, count: int, seed: int = 0, *, size: int = 64, progress: bool = False
) -> np.ndarray:
    """Chooses patches that leave no other far from all of them.

    Each next one is the farthest from those chosen before, after a random projection that keeps
    distances nearly (algorithm 1 of the paper).

    Args:
        patches: float32 [M, D].
        count: how many, in [1, M].
        seed: of the projection and the first patch (int >= 0, default 0).
        size: dimensions of the projection (int >= 1, default 64); D or more projects nothing.
        progress: show a progress bar (default False).

    Returns:
        int64 [count], in the order of their choice.
    """
    generator = np.random.default_rng(seed)
    if size < patches.shape[1]:
        projection = generator.normal(0, size**-0.5, (patches.shape[1], size))
        patches = patches @ projection.astype(np.float32)
    squares = np.einsum("md,md->m", patches, patches)
    chosen = np.empty(count, np.int64)
    chosen[0] = generator.integers(len(patches))
    nearest = np.full(len(patches), np.inf, np.float32)
    for place in tqdm(range(count), "Coreset", disable=not progress):
        if place:
            chosen[place] = np.argmax(nearest)
        latest = chosen[place]
        distances = squares - 2 * (patches @ patches[latest]) + squares[latest]
        np.minimum(nearest, distances, out=nearest)
        nearest[latest] = -np.inf
    return chosen
