"""Consistency over augmented views of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tensorflow as tf

from robustcls._settings import NonNegativeFloat, PositiveInt, Range, check_settings
from robustcls.training.objectives.mixing import mixed_views
from robustcls.training.objectives.objective import Batch, Objective, cross_entropy


@dataclass(frozen=True, kw_only=True)
class AugMix(Objective):
    """CE(f(x), y) + weight * JS(p(x), p(a), p(b)), a and b two mixed views of x.

    JS is the Jensen-Shannon divergence: the mean of the divergences from the three predictions
    to their mean. A view mixes the image with several chains of augmentations, see `mixed_views`.

    Source: Hendrycks et al., "AugMix: A Simple Data Processing Method to Improve Robustness and
    Uncertainty", 2020, section 3.

    Args:
        weight: of the divergence (float >= 0, default 12.0).
        severity: strength of the augmentations, 1 to 10 (int in [1, 10], default 3).
        width: chains of a view (int >= 1, default 3).
        depth: longest chain; each is 1 to `depth` long, drawn anew (int >= 1, default 3).

    Raises:
        InputError: a setting is out of its range.
    """

    name = "augmix"

    weight: NonNegativeFloat = 12.0
    severity: Annotated[int, Range(minimum=1, maximum=10)] = 3
    width: PositiveInt = 3
    depth: PositiveInt = 3

    def __post_init__(self) -> None:
        check_settings(self)

    def loss(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        views = self.views(batch)
        # One pass, so that batch norm sees all three as one batch.
        logits = batch.logits(tf.concat([batch.images, *views], 0), training=True)
        parts = tf.split(tf.nn.log_softmax(logits), 3)
        mean = tf.reduce_logsumexp(tf.stack(parts), 0) - tf.math.log(3.0)
        divergences = [tf.reduce_sum(tf.exp(part) * (part - mean), -1) for part in parts]
        clean = tf.split(logits, 3)[0]
        losses = cross_entropy(clean, batch.labels)
        return losses + self.weight * tf.add_n(divergences) / 3.0, clean

    def views(self, batch: Batch) -> list[tf.Tensor]:
        """Returns the two views of each image, float32 [N, H, W, C].

        Args:
            batch: of images to augment.
        """
        return [
            mixed_views(batch.images, batch.draw, self.severity, self.width, self.depth)
            for _ in range(2)
        ]
