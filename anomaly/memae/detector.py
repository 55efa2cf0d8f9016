"""`MemAE`: an autoencoder that may only use what its memory of normal images holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from anomaly.detection.layers import decode_image, encode_image
from anomaly.detection.reconstruction import Reconstruction, split_noise
from anomaly.detection.residual import ResidualDetector
from anomaly.detection.training import Training
from anomaly.detection.views import FeatureView
from anomaly.memae.memory import (
    ItemCount,
    MemoryModule,
    MemoryUsage,
    Shrinkage,
    Similarity,
    address_entropy,
)
from robustcls._settings import Choice, NonNegativeFloat
from robustcls.data.augment import AugmentationPolicy
from robustcls.distribution.replicas import share_of
from robustcls.models.reproducible import finish


@dataclass(kw_only=True, eq=False)
class MemAE(ResidualDetector):
    """Memory-augmented autoencoder, scored by its residual.

    The decoder sees, in place of the encoder's features, what `MemoryModule` reads for them, so
    anomalies are rebuilt from normal parts. The loss is the mean squared error plus
    `entropy_weight` times the mean entropy of the addresses.

    `entropy_weight=0, shrinkage=0` is the control without sparse addresses.

    Args:
        image_shape: (height, width, channels) of the images, sides ≥ 16, channels 1 or 3.
        augmentation: what training images go through (AugmentationPolicy or None, default None);
            its noise is only in the input, so that the network removes it. None changes nothing.
        epochs: passes over the normal images; None is 30, more where images are few (int >= 1 or
            None, default None).
        batch_size: images a training step; None is 64, fewer where images are few (int >= 2 or
            None, default None).
        false_alarm_rate: share of normal images that may be called anomalies, and share that may
            have boxes (float in (0, 1), default 0.05).
        seed: of weights, order, augmentation and the held-out images (int >= 0, default 0).
        contrast_normalization: whether the networks see images of one mean and one contrast (bool,
            default False); the residual that is scored is then that of those.
        code_size: values of the code between encoder and decoder, by dense layers around it (int >=
            1 or None, default None); None is the paper's network, whose code is the last
            convolution's output.
        relativity: r (float in [0, 1], default 0). The score is the residual's root mean square,
            divided by the image's to the power r: 0 is the absolute error, 1 the error relative to
            the image, in between neither faint nor bright images have the lowest scores by that
            alone. With `contrast_normalization` the image's is that of its deviations from its
            mean.
        residual_pooling: the score is that of the residual's means over cells of so many pixels a
            side (int >= 1, default 1); above 1, what edges and texture add to every image's error
            cancels out.
        code_neighbors: k, at most `batch_size`, multiplies the score by the distance of the image's
            code to the k-th nearest one of training images (Park et al., 2020, add such a
            distance), of at most 3,000 (int >= 0, default 0); 0 leaves it out. While the networks
            train, `score` is without it.
        restore_rotations: whether the networks are trained with inputs turned by quarter turns and
            targets that are not (bool, default False); images must be square. Images to score are
            not turned.
        learning_rate: of Adam (float > 0, default 1e-3).
        items: items in the memory (int >= 2 or None, default None); None is 100 for gray and 500
            for colour images.
        shrinkage: λ of `MemoryModule` (float in [0, 0.999] or None, default None); None is 1 /
            items, the low end of the paper's range (float in [0, 1) or None, default None).
        entropy_weight: α (float >= 0, default 0.0002).
        similarity: "dot" or "cosine", how `MemoryModule` compares ("cosine" or "dot", default
            "dot").
        query: "image" asks the memory once for all features of an image, as a vector ("image" or
            "position", default "image"); "position" for those of each position on its own, which
            holds more detail and more anomalies.

    Attributes:
        threshold: images that score above it are anomalies; NaN before `fit`.
        pixel_threshold: pixels of the smoothed map above it belong to a box; NaN before `fit`.

    Example:
        >>> images = np.random.default_rng(0).random((128, 28, 28, 1), "float32")
        >>> detector = MemAE(image_shape=(28, 28, 1), epochs=1).fit(images, verbose=0)
        >>> detector.score(images).shape, detector.memory.shape
        ((128,), (100, 576))

    Reference: Gong et al., 2019, "Memorizing Normality to Detect Anomaly: Memory-augmented Deep
    Autoencoder for Unsupervised Anomaly Detection", sections 3 and 4.1.
    """

    method: ClassVar[str] = "memae"
    former_settings: ClassVar[Mapping[str, Any]] = {
        **ResidualDetector.former_settings,
        "svdd_weight": 0.0,
    }

    items: ItemCount | None = None
    shrinkage: Shrinkage | None = None
    entropy_weight: NonNegativeFloat = 0.0002
    similarity: Similarity = "dot"
    query: Annotated[str, Choice(("image", "position"))] = "image"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.items is None:
            self.items = 100 if self.image_shape[-1] == 1 else 500
        if self.shrinkage is None:
            self.shrinkage = 1 / self.items

    @property
    def memory(self) -> np.ndarray:
        """The items, float32 [items, D].

        Raises:
            InputError: no `fit` yet.
        """
        self.require_fitted("memory")
        return np.asarray(self.networks["memae"].get_layer("memory").memory)

    def memory_usage(self, images: Any, *, batch_size: int = 256) -> dict[str, float]:
        """Returns how the memory serves images: a sound one uses many items, a few a query.

        Args:
            images: float32 [N, H, W, C] in [0, 1], of `image_shape`.
            batch_size: images a forward pass (int >= 1, default 256).

        Raises:
            InputError: unusable images, or no `fit` yet.

        Returns:
            `used_items`, how many items any query reads; `effective_items`, as `MemoryUsage`
            counts; `entropy`, of the addresses of one query in nats, on average.
        """
        usage, entropies, read = MemoryUsage(int(self.items or 0)), [], 0.0
        addresses = self.run_batches("_address", images, batch_size)
        for start in range(0, len(addresses), batch_size):
            batch = tf.constant(addresses[start : start + batch_size])
            usage.update_state(batch)
            entropies.append(np.asarray(address_entropy(batch)).ravel())
        read = addresses.reshape(-1, addresses.shape[-1]).max(0)
        return {
            "used_items": int((read > 0).sum()),
            "effective_items": float(usage.result()),
            "entropy": float(np.concatenate(entropies).mean()),
        }

    def view_features(self, images: np.ndarray, normal: np.ndarray) -> FeatureView:
        """Returns the queries as points and the memory's items as landmarks.

        Args:
            images: float32 [N, H, W, C] in [0, 1].
            normal: bool [N], which of the images are normal.
        """
        items = self.memory
        usage = self.memory_usage(images[normal])
        return FeatureView(
            # Where each position is a query, so is each point.
            points=self.encode(images).reshape(-1, items.shape[1]),
            landmarks=items,
            note=f"Crosses are the memory's items: normal images read {usage['used_items']} of "
            f"{len(items)}, {usage['effective_items']:.1f} of them in effect; the entropy of an "
            f"address is {usage['entropy']:.2f} nats.",
        )

    def build(self) -> dict[str, keras.Model]:
        images = keras.Input(self.image_shape, dtype="float32", name="images")
        code, sizes = encode_image(images, self.image_shape, self.code_size)
        items, shrinkage = int(self.items or 0), float(self.shrinkage or 0)
        memory = MemoryModule(items, shrinkage, self.similarity, name="memory")
        queries = code
        if self.query == "image":
            queries = keras.layers.Reshape((1, 1, math.prod(code.shape[1:])))(code)
        read, addresses = memory(queries)
        if self.query == "image":
            read = keras.layers.Reshape(code.shape[1:])(read)
        outputs = {
            "reconstruction": decode_image(read, sizes, self.image_shape),
            "addresses": addresses,
            "code": code,
        }
        network = finish(keras.Model(images, outputs), self.seed)
        return {"memae": network, **self._build_contrast(), **self._build_neighbors(code)}

    def train(self, training: Training) -> None:
        prepared = self._prepare_training(training)
        noise, _ = split_noise(self.augmentation)
        network = self.networks["memae"]
        model = MemoryReconstruction(
            network,
            self.entropy_weight,
            noise,
            self.seed,
            self.restore_rotations,
        )
        self._fit_network(prepared, model)
        self._keep_codes(training.images)

    def _outputs(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        return self.networks["memae"](self._prepare(images), training=False)

    def reconstruct_batch(self, images: tf.Tensor) -> tf.Tensor:
        return self._restore(self._outputs(images)["reconstruction"], images)

    def _address(self, images: tf.Tensor) -> tf.Tensor:
        return self._outputs(images)["addresses"]

    def _code(self, images: tf.Tensor) -> tf.Tensor:
        return self._outputs(images)["code"]

    def score_batch(self, images: tf.Tensor) -> tf.Tensor:
        prepared = self._prepare(images)
        outputs = self.networks["memae"](prepared, training=False)
        score = self._residual_score(prepared, outputs["reconstruction"])
        if self.code_neighbors:
            score *= self._neighbor_distance(_vectors(outputs["code"]))
        return score

    def encode_batch(self, images: tf.Tensor) -> tf.Tensor:
        return _vectors(self._code(images))


def _vectors(codes: tf.Tensor) -> tf.Tensor:
    return tf.reshape(codes, [-1, math.prod(codes.shape[1:])])


class MemoryReconstruction(Reconstruction):
    """Trains MemAE's network; logs the reconstruction error and how the memory is used.

    Args:
        network: images to `reconstruction` and `addresses`.
        entropy_weight: of the mean entropy of the addresses.
        noise: puts noise on the input of each step; None puts none (default None).
        seed: of the noise and the turns (int, default 0).
        rotations: whether the input of each step is turned by quarter turns (bool, default False).
    """

    def __init__(
        self,
        network: keras.Model,
        entropy_weight: float,
        noise: AugmentationPolicy | None = None,
        seed: int = 0,
        rotations: bool = False,
    ) -> None:
        super().__init__(network, noise, seed, rotations)
        self.entropy_weight = entropy_weight
        self.error = keras.metrics.Mean("reconstruction_error")
        self.entropy = keras.metrics.Mean("address_entropy")
        self.usage = MemoryUsage(network.get_layer("memory").items)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> tf.Tensor:
        error = tf.reduce_mean(tf.math.squared_difference(y, y_pred["reconstruction"]))
        entropy = tf.reduce_mean(address_entropy(y_pred["addresses"]))
        self.error.update_state(error)
        self.entropy.update_state(entropy)
        self.usage.update_state(y_pred["addresses"])
        return share_of(error + self.entropy_weight * entropy)
