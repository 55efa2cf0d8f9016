"""A tiny classifier and images that its features tell apart."""

import keras
import numpy as np
import pytest

import robustcls as rc
from robustcls.familiarity.fitting import gather

CLASSES = 4


@pytest.fixture(scope="session")
def model():
    draws = np.random.default_rng(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(6, 3, 2),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.Flatten(),
            keras.layers.Dense(24, activation="relu"),
            keras.layers.Dense(CLASSES),
        ],
        name="tiny",
    )
    model.set_weights([draws.normal(0.05, 0.3, w.shape) ** 2 for w in model.get_weights()])
    model.layers[-1].set_weights([draws.normal(size=(24, CLASSES)), draws.normal(size=CLASSES)])
    return model


@pytest.fixture(scope="session")
def images():
    """uint8 pictures with a bright square whose place is the class."""
    draws = np.random.default_rng(1)
    labels = np.arange(240) % CLASSES
    images = draws.integers(0, 60, (240, 8, 8, 1), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(label, 2)
        image[4 * row : 4 * row + 3, 4 * column : 4 * column + 3] += 150
    return rc.Split(images, labels, np.array([f"train/{n:03d}" for n in range(240)]))


@pytest.fixture(scope="session")
def material(model, images):
    return gather(model, images, false_alarm_rate=0.1)
