"""`AutoEncoder`: what an autoencoder of normal images cannot reconstruct is anomalous."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import keras
import tensorflow as tf

from anomaly.detection.layers import decode_image, encode_image
from anomaly.detection.reconstruction import Reconstruction, split_noise
from anomaly.detection.residual import ResidualDetector
from anomaly.detection.training import Training
from robustcls.models.reproducible import finish


@dataclass(kw_only=True, eq=False)
class AutoEncoder(ResidualDetector):
    """A plain convolutional autoencoder, scored by its residual.

    The networks are MemAE's for images without the memory. It learns to give back images in the
    mean square; an image's map is the length of each pixel's residual over the channels.

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

    Attributes:
        threshold: images that score above it are anomalies; NaN before `fit`.
        pixel_threshold: pixels of the smoothed map above it belong to a box; NaN before `fit`.

    Example:
        >>> images = np.random.default_rng(0).random((128, 28, 28, 1), "float32")
        >>> detector = AutoEncoder(image_shape=(28, 28, 1), epochs=1).fit(images, verbose=0)
        >>> detector.score(images).shape, detector.anomaly_map(images).shape
        ((128,), (128, 28, 28))

    Reference: Gong et al., 2019, "Memorizing Normality to Detect Anomaly: Memory-augmented Deep
    Autoencoder for Unsupervised Anomaly Detection" (its baseline AE).
    """

    method: ClassVar[str] = "autoencoder"

    def build(self) -> dict[str, keras.Model]:
        images = keras.Input(self.image_shape, dtype="float32", name="images")
        code, sizes = encode_image(images, self.image_shape, self.code_size)
        outputs = decode_image(code, sizes, self.image_shape)
        network = finish(keras.Model(images, outputs), self.seed)
        parts = {**self._build_contrast(), **self._build_neighbors(code)}
        return {"autoencoder": network, **parts}

    def train(self, training: Training) -> None:
        prepared = self._prepare_training(training)
        noise, _ = split_noise(self.augmentation)
        network = self.networks["autoencoder"]
        model = Reconstruction(network, noise, self.seed, self.restore_rotations)
        self._fit_network(prepared, model)
        self._keep_codes(training.images)

    def _reconstruct_prepared(self, prepared: tf.Tensor) -> tf.Tensor:
        return self.networks["autoencoder"](prepared, training=False)

    def reconstruct_batch(self, images: tf.Tensor) -> tf.Tensor:
        return self._restore(self._reconstruct_prepared(self._prepare(images)), images)

    def score_batch(self, images: tf.Tensor) -> tf.Tensor:
        prepared = self._prepare(images)
        score = self._residual_score(prepared, self._reconstruct_prepared(prepared))
        if self.code_neighbors:
            score *= self._neighbor_distance(self._encode_prepared(prepared))
        return score

    def encode_batch(self, images: tf.Tensor) -> tf.Tensor:
        return self._encode_prepared(self._prepare(images))

    def _encode_prepared(self, prepared: tf.Tensor) -> tf.Tensor:
        network = self.networks["autoencoder"]
        last = [layer for layer in network.layers if layer.name.startswith("encoder")][-1]
        code = keras.Model(network.input, last.output)(prepared, training=False)
        return tf.reshape(code, [-1, math.prod(code.shape[1:])])
