"""Defences that only look like some: the fast suite sees through them, or says why it does not.

What the trust checks say of the same defences is in `test_trust.py`.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from robustcls import InputError
from robustcls.attacks import FGSM, Fast

layers = keras.layers


class Rounding(layers.Layer):
    def call(self, images):
        return tf.round(4 * images) / 4


class RandomResizing(layers.Layer):
    """Shrinks the image, and puts it anywhere in the frame, another size and place each time."""

    def __init__(self):
        super().__init__()
        self.draws = keras.random.SeedGenerator(0)

    def call(self, images):
        top, left, side = tf.unstack(keras.random.randint([3], 1, 8, seed=self.draws))
        small = tf.image.resize(images, [side, side])
        return tf.ensure_shape(
            tf.image.pad_to_bounding_box(small, top - 1, left - 1, 14, 14), images.shape
        )


class InputNoise(layers.Layer):
    def __init__(self):
        super().__init__()
        self.draws = keras.random.SeedGenerator(0)

    def call(self, images):
        return images + keras.random.normal(tf.shape(images), 0, 0.1, seed=self.draws)


def in_front_of(model, layer):
    return keras.Sequential([keras.Input(model.input_shape[1:]), layer, model])


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Rounding(), "no gradient with respect to the images"),
        (RandomResizing(), "same logits each time.*version='rand'"),
        (InputNoise(), "same logits each time.*version='rand'"),
    ],
    ids=["rounding", "random resizing", "input noise"],
)
def test_fast_says_why_it_does_not_judge(layer, message, honest, few):
    images, labels = (part[:24] for part in few)
    with pytest.raises(InputError, match=message) as error:
        Fast(epsilon=0.1)(in_front_of(honest, layer), images, labels)
    assert "\n" not in str(error.value)


@pytest.mark.long
def test_fast_sees_through_saturated_temperature(honest, few):
    images, labels = (part[:24] for part in few)
    parts = [keras.Input((14, 14, 1)), honest, layers.Rescaling(300.0), layers.Softmax()]
    saturated = Fast(epsilon=0.1)(keras.Sequential(parts), images, labels)
    plain = Fast(epsilon=0.1)(honest, images, labels)
    assert abs(saturated.robust_accuracy - plain.robust_accuracy) <= 1 / 24 + 1e-9

    def clipped(batch):
        scores = tf.nn.softmax(300.0 * honest(batch)).numpy()
        return np.clip(scores, 1e-7, 1 - 1e-7)

    with pytest.raises(InputError, match="probabilities are clipped"):
        Fast(epsilon=0.1)(clipped, images, labels)


def test_fast_sees_through_training_against_one_step(overfitted, few):
    images, labels = (part[:40] for part in few)
    one_step = FGSM(epsilon=0.3)(overfitted, images, labels).robust_accuracy
    assert one_step > 0.3
    assert Fast(epsilon=0.3)(overfitted, images, labels).robust_accuracy < one_step / 4
