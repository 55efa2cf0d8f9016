"""What an export says of familiarity, and what it must answer."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from robustcls._validation import InputError
from robustcls.familiarity.familiarity import Familiarity

#: Outputs that an export has when a familiarity is part of it.
OUTPUTS = ("familiarity", "familiar")
USE = (
    "One image in, one of the classes below out, and whether the image is like those that the "
    "model was trained on: the class of an image that is not `familiar` is worth nothing."
)
# Of the largest logit.
_SAME = 1e-2


def familiar_answers(
    familiarity: Familiarity,
    images: np.ndarray,
    logits: np.ndarray,
    rounded: keras.Model | None = None,
) -> dict[str, np.ndarray]:
    """Returns what must come of the samples beside their logits.

    Args:
        familiarity: as it was fitted.
        images: float32 [N, H, W, C] in [0, 1].
        logits: float32 [N, K], what the model makes of them.
        rounded: the network with rounded weights, where these are served (default None).

    Raises:
        InputError: it was fitted to another model.
    """
    _, own = familiarity.features(images)
    # Those recovered from probabilities are known up to one number for each image.
    apart = own - logits if own.shape == logits.shape else np.full((1, 1), np.inf)
    apart = apart - apart.mean(axis=1, keepdims=True) if np.isfinite(apart).all() else apart
    if rounded is None and np.abs(apart).max() > _SAME * max(1.0, float(np.abs(logits).max())):
        raise InputError(
            "familiarity must be fitted to the model that is exported; it finds other logits in "
            "the same images. Fit it again."
        )
    if rounded is not None:
        found = familiarity.served(rounded)(tf.constant(images))
        return {name: np.asarray(found[name]) for name in OUTPUTS}
    scores = familiarity.score(images)
    return {"familiarity": scores, "familiar": scores >= np.float32(familiarity.threshold)}


def familiar_meanings(familiarity: Familiarity) -> dict[str, str]:
    """Returns what the outputs mean, for the card.

    Args:
        familiarity: as it was fitted.
    """
    return {
        "familiarity": f"how like the training images the model finds an image, by the method "
        f"{familiarity.method.registry_name}; higher is more familiar",
        "familiar": f"whether that is {familiarity.threshold:.6g} or more; at most "
        f"{100 * familiarity.false_alarm_rate:g} % of images like the training images fall below "
        f"({familiarity.held_out} held-out images)",
    }
