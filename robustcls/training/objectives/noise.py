"""Noise-augmented training, which randomized smoothing needs."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from robustcls._settings import PositiveFloat, check_settings
from robustcls.training.objectives.objective import Batch, Objective, cross_entropy
from robustcls.training.objectives.perturbing import gaussian


@dataclass(frozen=True, kw_only=True)
class NoiseTraining(Objective):
    """Cross-entropy of images with Gaussian noise, clipped to [0, 1].

    Source: Cohen et al., "Certified adversarial robustness via randomized smoothing", 2019,
    section 3.3; clipped, as `robustcls certify` clips.

    Args:
        sigma: standard deviation of the noise for images in [0, 1] (float > 0, default 0.25).

    Raises:
        InputError: a setting is out of its range.
    """

    name = "noise"

    sigma: PositiveFloat = 0.25

    def __post_init__(self) -> None:
        check_settings(self)

    def loss(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        noisy = batch.images + gaussian(batch, self.sigma)
        logits = batch.logits(tf.clip_by_value(noisy, 0.0, 1.0), training=True)
        return cross_entropy(logits, batch.labels), logits
