"""Integrated gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from robustcls.attacks.gradient import value_and_gradient
from robustcls.explanation.methods.maps import Maps
from robustcls.explanation.methods.registry import register_explanation


@register_explanation()
def integrated_gradients(explainer: Any, images: np.ndarray, classes: np.ndarray) -> Maps:
    """The difference of the logit from a black image's, shared out among the pixels.

    Source: Sundararajan et al., "Axiomatic attribution for deep networks", 2017.
    """

    def gradients(images: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        def score(points: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            logits = explainer.logits(points)
            return tf.gather(logits, classes, batch_dims=1), logits

        return value_and_gradient(score, images)[2]

    compiled = explainer.compiled("path", gradients, images)
    total = np.zeros_like(images)
    for step in range(explainer.steps):
        share = np.float32((step + 0.5) / explainer.steps)
        total += compiled(share * images, classes).numpy()
    shares = (images * total / explainer.steps).sum(-1)
    return Maps(np.maximum(shares, 0), np.maximum(-shares, 0), attribution=True)
