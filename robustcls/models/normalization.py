"""Batch normalization through TensorFlow's fused kernel."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

FUSED_DTYPES = ("float32", "float16", "bfloat16")


@keras.saving.register_keras_serializable(package="robustcls")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Drop-in for `keras.layers.BatchNormalization` that trains through one fused kernel.

    Keras 3 composes batch normalization from elementwise operations. Training on
    channels-last images goes through `FusedBatchNormV3` instead: the same outputs, gradients
    and moving statistics to float32 rounding. What the kernel does not cover (another axis or
    rank, masks, float64, `renorm`, `synchronized`) is left to Keras, and so is inference:
    there Keras multiplies and adds with a precomputed scale and offset, and the gradient with
    respect to the images, which is what an attack spends its time on, is faster than the
    kernel's, which always computes those of gamma and beta too.

    Args:
        **kwargs: As for `keras.layers.BatchNormalization`, with the same defaults.

    Input shape: any; fused for float32, float16 or bfloat16 [N, H, W, C] with the last axis
    normalized. Output shape: the input's.

    Example:
        >>> layer = FusedBatchNormalization(momentum=0.9)
        >>> layer(tf.ones((2, 4, 4, 3)), training=True).shape
        TensorShape([2, 4, 4, 3])

    Reference: Ioffe and Szegedy, 2015, "Batch Normalization: Accelerating Deep Network
    Training by Reducing Internal Covariate Shift".
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalizes `inputs`; see the class."""
        if not (training and self.trainable and self._is_fusible(inputs, mask)):
            return super().call(inputs, training=training, mask=mask)
        channels = inputs.shape[-1]
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.convert_to_tensor(self.gamma) if self.scale else tf.ones((channels,)),
            offset=tf.convert_to_tensor(self.beta) if self.center else tf.zeros((channels,)),
            mean=tf.zeros((0,)),
            variance=tf.zeros((0,)),
            epsilon=self.epsilon,
            is_training=True,
        )
        # The kernel returns Bessel's unbiased variance, Keras averages the biased one.
        count = tf.cast(tf.size(inputs) // channels, variance.dtype)
        variance *= (count - 1) / count
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))
        return outputs

    def _is_fusible(self, inputs: Any, mask: Any) -> bool:
        return (
            mask is None
            and not getattr(self, "renorm", False)  # Keras before 3.13 has none
            and not self.synchronized
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and keras.backend.standardize_dtype(inputs.dtype) in FUSED_DTYPES
            and keras.backend.standardize_dtype(self.moving_mean.dtype) == "float32"
        )
