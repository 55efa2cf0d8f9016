"""`AutoEncoder`: what an autoencoder of normal images cannot reconstruct is anomalous."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import keras
import numpy as np
import tensorflow as tf

from anomaly.layers import decode_image, encode_image
from anomaly.reconstruction import Reconstruction, ReconstructionDetector, split_noise
from anomaly.training import Training
from robustcls._validation import check_number
from robustcls.models.finishing import finish


@dataclass(kw_only=True, eq=False)
class AutoEncoder(ReconstructionDetector):
    """A plain convolutional autoencoder, scored by its residual.

    The networks are MemAE's for images without the memory. It learns to give back images in the
    mean square; an image's map is the length of each pixel's residual over the channels, its score
    the root mean square of the map. With an `augmentation` that has noise it is a denoising
    autoencoder: the noise is only in the input, everything else in the target too.

    Attributes:
        learning_rate: of Adam.
        (others): as for `ReconstructionDetector`.

    Example:
        >>> images = np.random.default_rng(0).random((128, 28, 28, 1), "float32")
        >>> detector = AutoEncoder(image_shape=(28, 28, 1), epochs=1).fit(images, verbose=0)
        >>> detector.score(images).shape, detector.anomaly_map(images).shape
        ((128,), (128, 28, 28))

    Reference: Gong et al., 2019, "Memorizing Normality to Detect Anomaly: Memory-augmented Deep
    Autoencoder for Unsupervised Anomaly Detection" (its baseline AE).
    """

    method: ClassVar[str] = "autoencoder"

    epochs: int = 30
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("learning_rate", self.learning_rate, above=0)

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

    def _encode(self, images: tf.Tensor) -> tf.Tensor:
        network = self._networks["autoencoder"]
        last = [layer for layer in network.layers if layer.name.startswith("encoder")][-1]
        code = keras.Model(network.input, last.output)(images, training=False)
        return tf.reshape(code, [tf.shape(code)[0], int(np.prod(code.shape[1:]))])
