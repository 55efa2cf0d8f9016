"""The layers of detectors compute the same when they are saved as stock Keras layers."""

import zipfile

import keras
import numpy as np
import pytest

from anomaly.deep_svdd.sphere import DistanceToCenter
from anomaly.detection.contrast import ContrastNormalization
from anomaly.detection.neighbors import NeighborDistance
from anomaly.memae import MemoryModule
from anomaly.memae.video_networks import build_video_memae
from anomaly.one_class_svm import KernelScore
from anomaly.patch_memory import Memory
from robustcls import save_classifier


def draw(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


def memory(count, neighbors, *, whiten=False):
    layer = Memory(count, neighbors, name="memory")
    layer.build((None, 2, 3, 5))
    layer.remember(layer.scale(draw(30, 5), whiten=whiten)[:12])
    return layer


def neighbors(count):
    layer = NeighborDistance(3, count, name="neighbors")
    layer.build((None, 5))
    layer.adapt(draw(12, 5))
    return layer


def contrast():
    layer = ContrastNormalization(name="contrast")
    layer.build((None, 4, 4, 1))
    layer.adapt(draw(9, 4, 4, 1))
    return layer


def sphere():
    layer = DistanceToCenter(name="sphere")
    layer.build((None, 5))
    layer.set_center(draw(9, 5) - 0.5)
    return layer


def kernels(used):
    layer = KernelScore(20, 0.5, name="svm")
    layer.build((None, 5))
    weights = np.arange(20) < used
    layer.set_weights([draw(20, 5), weights * draw(20), np.float32(0.7)])
    return layer


LAYERS = {
    "memory of the authors' code": (lambda: MemoryModule(9, 0.1, name="m"), (2, 3, 5)),
    "memory of the paper's text": (lambda: MemoryModule(9, 0.1, "cosine", name="m"), (4, 5)),
    "memory without shrinkage": (lambda: MemoryModule(9, 0, name="m"), (2, 2, 2, 5)),
    "patches": (lambda: memory(20, 4), (2, 3, 5)),
    "white patches": (lambda: memory(20, 4, whiten=True), (2, 3, 5)),
    "patches weighed by nothing": (lambda: memory(12, 1), (2, 3, 5)),
    "patches before fit": (lambda: Memory(20, 4, name="memory"), (2, 3, 5)),
    "codes": (lambda: neighbors(20), (5,)),
    "codes before fit": (lambda: NeighborDistance(3, name="neighbors"), (5,)),
    "contrast": (contrast, (4, 4, 1)),
    "sphere": (sphere, (5,)),
    "kernels": (lambda: kernels(7), (5,)),
    "kernels before fit": (lambda: kernels(0), (5,)),
}


def check(network, images, path):
    save_classifier(network, path)
    with zipfile.ZipFile(path) as archive:
        config = archive.read("config.json").decode()
    assert "anomaly" not in config
    assert "robustcls" not in config
    # Keras reads a tuple of outputs back as a list.
    found, expected = (
        keras.tree.flatten(model(images)) for model in (keras.models.load_model(path), network)
    )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6, strict=True)
    return expected


@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_is_saved_as_stock_layers(kind, tmp_path):
    make, shape = LAYERS[kind]
    inputs = keras.Input(shape)
    network = keras.Model(inputs, make()(inputs))
    outputs = check(network, draw(6, *shape, seed=1), tmp_path / "network.keras")
    assert all(np.std(output) > 0 for output in outputs) or "before" in kind


def test_the_network_for_clips_too(tmp_path):
    network = build_video_memae((8, 16, 16, 1), items=5, width=0.005)
    check(network, draw(1, 8, 16, 16, 1), tmp_path / "network.keras")
