"""Images that a model takes for a class more than any other: activation maximization."""

from __future__ import annotations

from typing import Annotated, Any

import keras
import numpy as np
import tensorflow as tf

from robustcls._settings import (
    Choice,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    checked,
)
from robustcls._validation import InputError, check_labels
from robustcls.classifiers.compiling import compile_once
from robustcls.explanation.explainer import Explainer
from robustcls.explanation.fourier import by_waves
from robustcls.explanation.methods._tf_keras_vis import ActivationMaximization, TotalVariation2D
from robustcls.explanation.methods.gradients import class_gradients
from robustcls.explanation.methods.logits_model import LogitsModel

PARAMETRIZATIONS = ("fourier", "pixels")
_JITTER = 2


@checked
def class_images(
    explainer: Explainer,
    classes: np.ndarray,
    image_shape: tuple[int, int, int],
    *,
    steps: PositiveInt = 128,
    step_size: PositiveFloat = 0.05,
    smoothness: NonNegativeFloat = 1.0,
    seed: NonNegativeInt = 0,
    parametrization: Annotated[str, Choice(PARAMETRIZATIONS)] = "fourier",
) -> np.ndarray:
    """Climbs from gray noise to an image with a high logit, for each class.

    With "fourier" Adam moves the waves that an image is made of, those of low frequency most, and
    its colours are independent as those of photographs are: shapes come out where pixels alone find
    noise that only the model sees. By pixels alone, images look like the class only for models that
    were trained against attacks (Engstrom et al., "Adversarial robustness as a prior for learned
    representations", 2019); "pixels" is tf-keras-vis' `ActivationMaximization`. Images are shifted
    a little at each step and kept in [0, 1].

    Source: Erhan et al., "Visualizing higher-layer features of a deep network", 2009; Olah et
    al., "Feature visualization", 2017, for the shifts and the parametrization.

    Args:
        explainer: of the model.
        classes: int [N].
        image_shape: (H, W, C).
        steps: of the ascent (int >= 1, default 128).
        step_size: Adam's learning rate (float > 0, default 0.05).
        smoothness: weight of the total variation, which is held against an image (float >= 0,
            default 1.0).
        seed: of the noise and the shifts (int >= 0, default 0).
        parametrization: what is moved ("fourier" or "pixels", default "fourier").

    Returns:
        float32 [N, H, W, C] in [0, 1].

    Raises:
        InputError: classes that the model does not have, or an unusable setting.
    """
    if not len(classes):
        raise InputError("classes must be at least one class; received none.")
    gray = np.full((1, *image_shape), 0.5, np.float32)
    width = explainer.prepare(gray)
    classes = check_labels(classes, len(classes), width, "classes")
    class_gradients(explainer, gray, classes[:1])  # there must be some
    climb = by_waves if parametrization == "fourier" else _by_pixels
    settings: dict[str, Any] = {
        "steps": steps,
        "step_size": step_size,
        "smoothness": smoothness,
        "seed": seed,
    }
    return climb(explainer, tf.constant(classes), image_shape, **settings)


def _by_pixels(
    explainer: Explainer,
    classes: tf.Tensor,
    image_shape: tuple[int, int, int],
    *,
    steps: int,
    step_size: float,
    smoothness: float,
    seed: int,
) -> np.ndarray:
    generator = np.random.default_rng(seed)
    start = 0.5 + 0.05 * generator.standard_normal((len(classes), *image_shape))

    def shift_and_clip(images: tf.Tensor) -> tf.Tensor:
        shifts = generator.integers(-_JITTER, _JITTER + 1, 2).tolist()
        return tf.roll(tf.clip_by_value(images, 0.0, 1.0), shifts, axis=[1, 2])

    signature = [tf.TensorSpec([None, *image_shape], tf.float32)]
    logits = explainer.remember("logits", lambda: compile_once(explainer.logits, signature))
    climber = ActivationMaximization(LogitsModel(logits, image_shape))
    found = climber(
        lambda logits: tf.gather(logits, classes, batch_dims=1),
        seed_input=tf.constant(np.clip(start, 0, 1), tf.float32),
        input_range=(0.0, 1.0),
        input_modifiers=[shift_and_clip],
        regularizers=[TotalVariation2D(weight=smoothness)],
        steps=steps,
        optimizer=keras.optimizers.Adam(step_size),
    )
    return np.asarray(found, np.float32)
