"""Integrated gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from robustcls.explanation.methods.gradients import gradients_of_copies
from robustcls.explanation.methods.maps import Maps
from robustcls.explanation.methods.registry import register_explanation


@register_explanation()
def integrated_gradients(explainer: Any, images: np.ndarray, classes: np.ndarray) -> Maps:
    """The difference of the logit from a black image's, shared out among the pixels.

    Source: Sundararajan et al., "Axiomatic attribution for deep networks", 2017.
    """

    def on_the_way(step: int) -> np.ndarray:
        return np.float32((step + 0.5) / explainer.steps) * images

    total = np.zeros_like(images)
    for gradients in gradients_of_copies(explainer, explainer.steps, on_the_way, classes):
        total += gradients
    shares = (images * total / explainer.steps).sum(-1)
    return Maps.of_signed(shares, attribution=True)
