import contextlib
import functools

import keras
import numpy as np
import pytest

import robustcls as rc
from robustcls.attacks import loop

layers = keras.layers
CLASSES = 5


def _model(shape, classes):
    """Random directions as classes: far from constant, and cheap."""
    model = keras.Sequential(
        [
            keras.Input(shape),
            layers.Conv2D(4, 3, activation="tanh"),
            layers.Flatten(),
            layers.Dense(classes),
        ]
    )
    generator = np.random.default_rng(0)
    model.set_weights([generator.normal(0, 0.5, w.shape) for w in model.get_weights()])
    return model


@pytest.fixture(scope="session")
def problem():
    """A function that gives (model, images, labels), the first three labels wrong.

    The model is the same for the same arguments, so that an attack on it is traced once for all
    tests; `fresh` makes a new one.
    """
    kept = functools.cache(_model)

    def make(shape, count=37, classes=CLASSES, fresh=False):
        model = (_model if fresh else kept)(shape, classes)
        # Many pixels lie on the border of [0, 1], as in real images.
        images = np.random.default_rng(0).uniform(-0.2, 1.2, (count, *shape)).clip(0, 1)
        images = images.astype(np.float32)
        labels = np.argmax(model(images), -1)
        labels[:3] = (labels[:3] + 1) % classes
        return model, images, labels

    return make


@pytest.fixture(scope="session")
def trained():
    """(model, images, labels): a small network, trained on real images, and its test images."""
    splits = rc.load("fashion_mnist_mini")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(8, 3, strides=2, activation="relu"),
            layers.Conv2D(16, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    train = splits.train
    model.fit(train.float_images()[:3000], train.labels[:3000], batch_size=64, epochs=4, verbose=0)
    return model, splits.test.float_images()[:128], splits.test.labels[:128]


@pytest.fixture
def stopped_at(monkeypatch):
    """A context in which an attack is stopped before so many steps, its state saved."""

    @contextlib.contextmanager
    def stopped_at(step):
        advance, left = loop.Loop._advance, [step]

        def stop(self):
            left[0] -= 1
            if left[0] == 0:
                self._save()
                raise KeyboardInterrupt
            advance(self)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(loop.Loop, "_advance", stop)
            yield

    return stopped_at
