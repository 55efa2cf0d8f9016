"""`AutoEncoder`: what an autoencoder of normal images cannot reconstruct is anomalous."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from anomaly.detector import OneClassDetector
from anomaly.layers import decode_image, encode_image
from anomaly.training import Training
from robustcls._validation import check_number
from robustcls.data.augment import AugmentationPolicy
from robustcls.models.finishing import finish


@dataclass(kw_only=True, eq=False)
class AutoEncoder(OneClassDetector):
    """A plain convolutional autoencoder, scored by its residual.

    The networks are MemAE's for images without the memory. It learns to give back images in the
    mean square; an image's map is the length of each pixel's residual over the channels, its score
    the mean of the map. With an `augmentation` that has noise it is a denoising autoencoder: the
    noise is only in the input, everything else in the target too.

    Attributes:
        learning_rate: of Adam.
        (others): as for `OneClassDetector`.

    Example:
        >>> images = np.random.default_rng(0).random((128, 28, 28, 1), "float32")
        >>> detector = AutoEncoder(image_shape=(28, 28, 1), epochs=1).fit(images, verbose=0)
        >>> detector.score(images).shape, detector.anomaly_map(images).shape
        ((128,), (128, 28, 28))

    Reference: Gong et al., 2019, "Memorizing Normality to Detect Anomaly: Memory-augmented Deep
    Autoencoder for Unsupervised Anomaly Detection" (its baseline AE).
    """

    method: ClassVar[str] = "autoencoder"

    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("learning_rate", self.learning_rate, above=0)

    def reconstruct(self, images: Any, *, batch_size: int = 256) -> np.ndarray:
        """Returns the reconstructions, float32 [N, H, W, C], not clipped to [0, 1].

        Args and Raises: as for `score`.
        """
        return self._apply("_reconstruct", images, batch_size)

    def _build(self) -> dict[str, keras.Model]:
        images = keras.Input(self.image_shape, dtype="float32", name="images")
        code, sizes = encode_image(images, self.image_shape)
        outputs = decode_image(code, sizes, self.image_shape)
        return {"autoencoder": finish(keras.Model(images, outputs), self.seed)}

    def _train(self, training: Training) -> None:
        noise, others = split_noise(self.augmentation)
        model = Reconstruction(self._networks["autoencoder"], noise, self.seed)
        model.compile(keras.optimizers.Adam(self.learning_rate), loss="mse")
        training.run(
            "autoencoder",
            model,
            epochs=self.epochs,
            batch_size=self.batch_size,
            seed=self.seed,
            policy=others,
        )

    def _reconstruct(self, images: tf.Tensor) -> tf.Tensor:
        return self._networks["autoencoder"](images, training=False)

    def _anomaly_map(self, images: tf.Tensor) -> tf.Tensor:
        return tf.norm(images - self._reconstruct(images), axis=-1)

    def _score(self, images: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(self._anomaly_map(images), axis=[1, 2])

    def _encode(self, images: tf.Tensor) -> tf.Tensor:
        network = self._networks["autoencoder"]
        last = [layer for layer in network.layers if layer.name.startswith("encoder")][-1]
        code = keras.Model(network.inputs, last.output)(images, training=False)
        return tf.reshape(code, [tf.shape(code)[0], int(np.prod(code.shape[1:]))])


class Reconstruction(keras.Model):
    """Trains a network to give images back, the clean ones where noise was put in.

    Args:
        network: images [N, H, W, C] to reconstructions of the same shape.
        noise: puts noise on the input of each step; None puts none.
        seed: of the noise.
    """

    def __init__(
        self, network: keras.Model, noise: AugmentationPolicy | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        self.network = network
        self.noise = noise
        self.seed = seed

    def call(self, images: Any, training: bool | None = None) -> Any:
        return self.network(images, training=training)

    def train_step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        images, _ = batch
        noisy = images
        if self.noise is not None:
            # Keyed by the step, so a resumed training sees the noise of one that was not stopped.
            step = tf.cast(self.optimizer.iterations, tf.int64)
            noisy = self.noise(images, seed=tf.stack([tf.constant(self.seed, tf.int64), step]))
        return super().train_step((noisy, images))

    def test_step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        images, _ = batch
        return super().test_step((images, images))


def split_noise(
    policy: AugmentationPolicy | None,
) -> tuple[AugmentationPolicy | None, AugmentationPolicy | None]:
    """Returns the noise of a policy, and the policy without noise; None where there is none."""
    if policy is None:
        return None, None
    geometry_and_colour = dataclasses.replace(policy, noise_probability=0)
    if not policy.noises:
        return None, geometry_and_colour
    noise = dataclasses.replace(
        AugmentationPolicy.none(),
        noise_probability=policy.noise_probability,
        gaussian_stddev=policy.gaussian_stddev,
        poisson_photons=policy.poisson_photons,
        salt_and_pepper_amount=policy.salt_and_pepper_amount,
        speckle_stddev=policy.speckle_stddev,
    )
    return noise, geometry_and_colour
