"""Integrated gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from robustcls.explanation.methods.gradients import class_gradients
from robustcls.explanation.methods.maps import Maps
from robustcls.explanation.methods.registry import register_explanation


@register_explanation()
def integrated_gradients(explainer: Any, images: np.ndarray, classes: np.ndarray) -> Maps:
    """The difference of the logit from a black image's, shared out among the pixels.

    Source: Sundararajan et al., "Axiomatic attribution for deep networks", 2017.
    """
    total = np.zeros_like(images)
    for step in range(explainer.steps):
        share = np.float32((step + 0.5) / explainer.steps)
        total += class_gradients(explainer, share * images, classes)
    shares = (images * total / explainer.steps).sum(-1)
    return Maps.of_signed(shares, attribution=True)
