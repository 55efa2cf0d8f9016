"""Images that a model takes for a class more than any other: activation maximization."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from robustcls._settings import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    checked,
)
from robustcls._validation import check_labels
from robustcls.explanation.explainer import Explainer
from robustcls.explanation.methods._tf_keras_vis import ActivationMaximization, TotalVariation2D
from robustcls.explanation.methods.gradients import class_gradients

_JITTER = 2


@checked
def class_images(
    explainer: Explainer,
    classes: np.ndarray,
    image_shape: tuple[int, int, int],
    *,
    steps: PositiveInt = 64,
    step_size: PositiveFloat = 0.05,
    smoothness: NonNegativeFloat = 1.0,
    seed: NonNegativeInt = 0,
) -> np.ndarray:
    """Climbs from gray noise to an image with a high logit, for each class.

    The loop is tf-keras-vis' `ActivationMaximization` with Adam; images are shifted by up to
    two pixels at each step and kept in [0, 1].

    Source: Erhan et al., "Visualizing higher-layer features of a deep network", 2009; Olah et
    al., "Feature visualization", 2017, for the shifts.

    Args:
        explainer: of the model.
        classes: int [N].
        image_shape: (H, W, C).
        steps: of the ascent (int >= 1, default 64).
        step_size: Adam's learning rate (float > 0, default 0.05).
        smoothness: weight of the total variation, which is held against an image (float >= 0,
            default 1.0).
        seed: of the noise and the shifts (int >= 0, default 0).

    Returns:
        float32 [N, H, W, C] in [0, 1].

    Raises:
        InputError: classes that the model does not have, or an unusable setting.
    """
    generator = np.random.default_rng(seed)
    start = 0.5 + 0.05 * generator.standard_normal((len(classes), *image_shape))
    start = np.clip(start, 0, 1).astype(np.float32)
    width = explainer.prepare(start)
    chosen = tf.constant(check_labels(classes, len(start), width, "classes"))
    class_gradients(explainer, start[:1], np.asarray(classes)[:1])  # there must be some

    def shift_and_clip(images: tf.Tensor) -> tf.Tensor:
        shifts = generator.integers(-_JITTER, _JITTER + 1, 2).tolist()
        return tf.roll(tf.clip_by_value(images, 0.0, 1.0), shifts, axis=[1, 2])

    climb = ActivationMaximization(explainer.as_keras_model(image_shape))
    found = climb(
        lambda logits: tf.gather(logits, chosen, batch_dims=1),
        seed_input=tf.constant(start),
        input_range=(0.0, 1.0),
        input_modifiers=[shift_and_clip],
        regularizers=[TotalVariation2D(weight=smoothness)],
        steps=steps,
        optimizer=keras.optimizers.Adam(step_size),
    )
    return np.asarray(found, np.float32)
