"""A small network that has learnt where to look, shared by all tests of explanations."""

import keras
import numpy as np
import pytest

from robustcls.explanation.explainer import Explainer

SIDE = 16


def scenes(count, seed):
    """Noise with a patch somewhere whose weave is the class: (images, labels, where the patch is).

    Images float32 [N, 16, 16, 1] in [0, 1], labels int64 [N], bool [N, 16, 16].
    """
    generator = np.random.default_rng(seed)
    images = generator.uniform(0, 0.6, (count, SIDE, SIDE, 1)).astype(np.float32)
    labels = generator.integers(0, 4, count)
    places = np.zeros((count, SIDE, SIDE), bool)
    rows, columns = np.indices((6, 6))
    weaves = [rows + columns, rows, columns, rows // 2 + columns // 2]
    for image, place, label in zip(images, places, labels, strict=True):
        top, left = generator.integers(0, SIDE - 5, 2)
        image[top : top + 6, left : left + 6, 0] = weaves[label] % 2
        place[top : top + 6, left : left + 6] = True
    return images, labels.astype(np.int64), places


@pytest.fixture(scope="session")
def network():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 1), name="images"),
            layers.Conv2D(12, 3, padding="same", activation="relu", name="first"),
            layers.MaxPooling2D(name="pool"),
            layers.Conv2D(16, 3, padding="same", activation="relu", name="last"),
            layers.GlobalAveragePooling2D(name="pooled"),
            layers.Dense(4, name="logits"),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.02),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    images, labels, _ = scenes(512, 1)
    model.fit(images, labels, batch_size=64, epochs=8, verbose=0)
    functional = keras.Model(model.inputs, model.outputs, name="weaves")
    images, labels, _ = scenes(128, 2)
    assert (functional.predict(images, verbose=0).argmax(-1) == labels).mean() > 0.9
    return functional


@pytest.fixture(scope="session")
def explainer(network):
    return Explainer(network, batch_size=8)


@pytest.fixture(scope="session")
def pictures():
    """Images and labels; `places` says where each class is to be seen."""
    return scenes(20, 3)[:2]


@pytest.fixture(scope="session")
def places():
    return scenes(20, 3)[2]
