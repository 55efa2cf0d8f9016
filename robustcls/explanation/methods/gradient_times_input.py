"""Gradient times input."""

from __future__ import annotations

from typing import Any

import numpy as np

from robustcls.explanation.methods.gradients import class_gradients
from robustcls.explanation.methods.maps import Maps
from robustcls.explanation.methods.registry import register_explanation


@register_explanation()
def gradient_times_input(explainer: Any, images: np.ndarray, classes: np.ndarray) -> Maps:
    """What the gradient says that pixels add to the logit, as against black ones.

    Source: Shrikumar et al., "Not just a black box: learning important features through
    propagating activation differences", 2016, section 2.
    """
    product = (images * class_gradients(explainer, images, classes)).sum(-1)
    return Maps.of_signed(product, attribution=True)
