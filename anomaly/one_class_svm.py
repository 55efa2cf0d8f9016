"""`OneClassSVM`: the control on raw pixels, without a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import keras
import numpy as np
import tensorflow as tf
from sklearn import svm

from anomaly.detection.detector import OneClassDetector
from anomaly.detection.training import Training
from robustcls._settings import PositiveFloat, Range
from robustcls._validation import InputError
from robustcls.models.stock import weighted


@dataclass(kw_only=True, eq=False)
class OneClassSVM(OneClassDetector):
    """One-class SVM with a Gaussian kernel on raw pixels, scored by ρ - Σ αᵢ k(xᵢ, x).

    Args:
        image_shape: (height, width, channels) of the images, sides ≥ 16, channels 1 or 3.
        augmentation: none (None, default None); this method takes images as they are.
        epochs: it is solved, not trained by steps (int in [1, 1], default 1).
        batch_size: has no effect (int >= 2 or None, default None).
        false_alarm_rate: share of normal images that may be called anomalies (float in (0, 1),
            default 0.05).
        seed: of weights, order, augmentation and the held-out images (int >= 0, default 0).
        nu: ν, an upper bound on the share of outliers among the training images (float in (0, 1],
            default 0.1).
        gamma: γ of k(x, y) = exp(-γ ‖x - y‖²) (float > 0, default 2**-7).
        max_images: training images (int >= 2, default 3000); of more, that many are drawn.

    Attributes:
        threshold: images that score above it are anomalies; NaN before `fit`.

    Reference: Schölkopf et al., 2001, "Estimating the Support of a High-Dimensional Distribution".
    """

    method: ClassVar[str] = "one_class_svm"
    counts_epochs: ClassVar[bool] = False

    epochs: Annotated[int, Range(minimum=1, maximum=1)] = 1
    nu: Annotated[float, Range(above=0, maximum=1)] = 0.1
    gamma: PositiveFloat = 2**-7
    max_images: Annotated[int, Range(minimum=2)] = 3000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.augmentation is not None:
            raise InputError("augmentation must be None for one_class_svm; received a policy.")

    def build(self) -> dict[str, keras.Model]:
        images = keras.Input(self.image_shape, dtype="float32", name="images")
        pixels = keras.layers.Flatten(name="pixels")(images)
        scores = KernelScore(self.max_images, self.gamma, name="svm")(pixels)
        return {"svm": keras.Model(images, scores)}

    def train(self, training: Training) -> None:
        images = training.images
        if len(images) <= self.max_images:
            images = images[:]
        else:
            chosen = np.random.default_rng(self.seed).permutation(len(images))[: self.max_images]
            images = images[np.sort(chosen)]
        fitted = svm.OneClassSVM(nu=self.nu, gamma=self.gamma).fit(images.reshape(len(images), -1))
        vectors, weights, _ = self.networks["svm"].get_weights()
        count = len(fitted.support_vectors_)
        vectors[:count] = fitted.support_vectors_
        total = fitted.dual_coef_.sum()
        weights[:count] = fitted.dual_coef_[0] / total
        offset = np.float32(-fitted.intercept_[0] / total)
        self.networks["svm"].set_weights([vectors, weights, offset])

    def score_batch(self, images: tf.Tensor) -> tf.Tensor:
        return self.networks["svm"](images)


class KernelScore(keras.layers.Layer):
    """ρ - Σ αᵢ k(xᵢ, x) over at most `count` support vectors, [N, D] to [N].

    Args:
        count: rows of the weights; unused ones have αᵢ = 0.
        gamma: of the Gaussian kernel.
    """

    def __init__(self, count: int, gamma: float, **kwargs: Any) -> None:
        super().__init__(trainable=False, **kwargs)
        self.count = count
        self.gamma = gamma

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape = (self.count, input_shape[-1])
        self.vectors = self.add_weight(name="vectors", shape=shape, initializer="zeros")
        self.alphas = self.add_weight(name="alphas", shape=(self.count,), initializer="zeros")
        self.offset = self.add_weight(name="offset", shape=(), initializer="zeros")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        vectors = tf.convert_to_tensor(self.vectors)
        squares = tf.reduce_sum(inputs**2, -1, keepdims=True) + tf.reduce_sum(vectors**2, -1)
        distances = tf.maximum(squares - 2 * tf.matmul(inputs, vectors, transpose_b=True), 0)
        return self.offset - tf.linalg.matvec(tf.exp(-self.gamma * distances), self.alphas)

    def in_stock_layers(self, inputs: Any) -> Any:
        """As `call`, for `save_classifier`; unused vectors are left out."""
        used = np.flatnonzero(self.alphas)
        used = used if len(used) else np.arange(1)
        vectors, alphas = np.asarray(self.vectors)[used], np.asarray(self.alphas)[used]
        settings = {"dtype": self.dtype_policy, "trainable": False}
        distance = keras.layers.Dense(len(used), name=f"{self.name}_vectors", **settings)
        squares = weighted(distance, inputs, -2 * vectors.T, np.sum(vectors**2, -1))
        squares = squares + keras.ops.sum(keras.ops.square(inputs), -1, keepdims=True)
        kernel = keras.ops.exp(-self.gamma * keras.ops.maximum(squares, 0.0))
        score = keras.layers.Dense(1, name=self.name, **settings)
        return keras.ops.squeeze(weighted(score, kernel, -alphas[:, None], [self.offset]), -1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        return tuple(input_shape[:-1])
