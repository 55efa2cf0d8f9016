"""Robustness in the logs of `fit`, where other callbacks find it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import robustcls as rc
from robustcls import InputError

EPSILON = 0.1
ATTACK = rc.attacks.FGSM(epsilon=EPSILON)


@pytest.fixture(scope="module")
def data():
    """Images of one gray each, bright ones of class 1."""
    means = np.linspace(0.02, 0.98, 32, dtype=np.float32)
    images = np.broadcast_to(means[:, None, None, None], (32, 4, 4, 1)).copy()
    return images, (means > 0.5).astype(np.int64)


def linear_model():
    model = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    column = np.full(16, 1 / 16)
    model.set_weights([np.stack([-column, column], 1), np.array([0.5, -0.5])])
    model.compile(
        keras.optimizers.SGD(0.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    return model


class Turn(keras.callbacks.Callback):
    """Turns the weights around at the end of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            model = getattr(self.model, "base_model", self.model)
            model.set_weights([-weight for weight in model.get_weights()])


def test_others_can_monitor_it(data, tmp_path):
    model, (images, labels) = linear_model(), data
    # A linear model falls where its margin is below epsilon.
    expected = float((np.abs(images.mean((1, 2, 3)) - 0.5) > EPSILON).mean())
    assert 0 < expected < 1
    history = model.fit(
        images,
        labels,
        epochs=6,
        verbose=0,
        callbacks=[
            Turn(1),
            rc.callbacks.RobustAccuracy(ATTACK, (images, labels)),
            keras.callbacks.EarlyStopping("robust_accuracy", mode="max", patience=2),
            keras.callbacks.ModelCheckpoint(
                tmp_path / "{epoch}.keras", "robust_accuracy", mode="max", save_best_only=True
            ),
        ],
    ).history
    assert history["robust_accuracy"] == pytest.approx([expected, 0, 0])
    assert [path.name for path in tmp_path.iterdir()] == ["1.keras"]


@pytest.mark.parametrize("kind", ["arrays", "split", "dataset"])
def test_every_and_every_kind_of_images(data, kind):
    images, labels = data
    pixels = np.round(255 * images).astype(np.uint8)
    given = {
        "arrays": (images, labels),
        "split": (rc.Split(pixels, labels, labels.astype(str)),),
        "dataset": (tf.data.Dataset.from_tensor_slices((pixels, labels)).batch(5),),
    }[kind]
    robust = rc.AdversarialRegularization(linear_model(), step_size=0.01)
    robust.compile(keras.optimizers.SGD(0.0))
    watch = rc.callbacks.RobustAccuracy(ATTACK, *given, every=3, name="pgd")
    history = robust.fit(images, labels, epochs=5, verbose=0, callbacks=[Turn(1), watch]).history
    first, *between, fourth, last = history["pgd"]
    assert between == [first, first]
    assert first > 0.5
    assert fourth == last == 0


def test_pixels_of_another_range(data):
    """What a trainer says of its pixels holds for the attack too."""
    images, labels = data
    layers = [keras.Input((4, 4, 1)), keras.layers.Rescaling(1 / 255), linear_model()]
    robust = rc.AdversarialRegularization(
        keras.Sequential(layers), step_size=0.01, input_range=(0, 255)
    )
    robust.compile(keras.optimizers.SGD(0.0))
    watch = rc.callbacks.RobustAccuracy(ATTACK, data)
    found = robust.fit(255 * images, labels, verbose=0, callbacks=[watch]).history
    expected = float((np.abs(images.mean((1, 2, 3)) - 0.5) > EPSILON).mean())
    assert found["robust_accuracy"] == pytest.approx([expected])


def test_bad_input(data):
    for arguments, message in (
        (("fgsm", data), "attack must be an attack such as PGD"),
        ((rc.attacks.PGD(targeted=True), data), "attack must not be targeted"),
        ((ATTACK, data[0]), "a pair"),
        ((ATTACK, data[0], data[1][:3]), "labels must be 32"),
    ):
        with pytest.raises(InputError, match=message):
            rc.callbacks.RobustAccuracy(*arguments)
    with pytest.raises(InputError, match="every must be an integer >= 1"):
        rc.callbacks.RobustAccuracy(ATTACK, data, every=0)
