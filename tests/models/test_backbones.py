import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from robustcls._validation import InputError
from robustcls.models.backbones import BACKBONES, get_backbone, unfreezing_blocks
from robustcls.models.building import build_classifier, load_classifier
from robustcls.models.mobilenet_v2 import mobilenet_v2
from robustcls.models.normalization import FusedBatchNormalization
from robustcls.models.stock import save_classifier

# Blocks from the top, and the names of a few.
BLOCKS = {
    "mobilenet_v2": (20, {1: "Conv_1", 2: "block_16_", 18: "expanded_conv_", 19: "Conv1"}),
    "densenet121": (7, {1: "bn", 2: "conv5_", 3: "conv4_", 6: "conv1_"}),
    "nasnet_mobile": (18, {1: "_12", 2: "_11", 5: "_reduce_8", 6: "_8", 17: "stem_conv1"}),
    "efficientnet_b2": (10, {1: "top_", 2: "block7", 8: "block1", 9: "stem_"}),
    "efficientnet_b4": (10, {1: "top_", 2: "block7", 8: "block1", 9: "stem_"}),
    "efficientnet_b6": (10, {1: "top_", 2: "block7", 8: "block1", 9: "stem_"}),
    "efficientnet_lite0": (
        19,
        {1: "lite_head", 2: "lite_block_15_", 17: "lite_block_0_", 18: "lite_stem"},
    ),
    "resnext50": (18, {1: "stage4_block3_", 16: "stage1_block1_", 17: "stem_"}),
}


def build(name):
    return build_classifier(name, input_shape=(64, 64, 3), num_classes=4)


def check(model, name, folder):
    """What must hold for every backbone, each built only once for it."""
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    assert model.get_layer("average_pool").input.shape[1:3] == (2, 2)
    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert {type(layer) for layer in norms} == {FusedBatchNormalization}
    assert max(layer.momentum for layer in norms) <= 0.99
    scalings = [x for x in model.layers if isinstance(x, keras.layers.Rescaling)]
    assert [layer.name for layer in scalings] == ["preprocess"]
    assert not any(isinstance(layer, keras.layers.Normalization) for layer in model.layers)

    x = tf.constant(np.random.default_rng(0).random((2, 64, 64, 3), dtype=np.float32))
    with tf.GradientTape() as tape:
        loss = keras.losses.sparse_categorical_crossentropy(
            tf.constant([0, 1]), model(x, training=True), from_logits=True
        )
    gradients = tape.gradient(loss, model.trainable_weights)
    assert all(gradient is not None for gradient in gradients)
    assert all(np.isfinite(gradient).all() for gradient in gradients)

    save_classifier(model, folder / f"{name}.keras")
    np.save(folder / f"{name}.npy", model(x))
    loaded = load_classifier(folder / f"{name}.keras")
    assert [type(layer) for layer in loaded.layers] == [type(layer) for layer in model.layers]
    np.testing.assert_array_equal(loaded(x), model(x))
    check_blocks(model, name)
    check_blocks(loaded, name)


def check_blocks(model, name):
    blocks = unfreezing_blocks(model)
    count, some = BLOCKS[name]
    assert len(blocks) == count
    assert [layer.name for layer in blocks[0]] == ["logits"]
    for index, part in some.items():
        assert part in blocks[index][0].name
    names = [layer.name for block in blocks for layer in block]
    assert sorted(names) == sorted(layer.name for layer in model.layers if layer.weights)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The models that this file builds, saved, beside their logits for one batch."""
    return tmp_path_factory.mktemp("saved")


def test_mobilenet(folder):
    check(build("mobilenet_v2"), "mobilenet_v2", folder)


# The others have the same parts, but for grouped convolutions, which tests of their own have.
TYPICAL = ("efficientnet_b2",)


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in TYPICAL else pytest.mark.exhaustive)
        for name in sorted(BLOCKS.keys() - {"mobilenet_v2"})
    ],
)
def test_backbone(name, folder):
    check(build(name), name, folder)


@pytest.mark.long
def test_plain_keras_loads_them_all(folder):
    if not list(folder.glob("*.keras")):
        test_mobilenet(folder)
    code = """
import pathlib, sys
import keras, numpy as np
x = np.random.default_rng(0).random((2, 64, 64, 3), dtype=np.float32)
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.keras")):
    logits = keras.models.load_model(path)(x)
    expected = np.load(path.with_suffix(".npy"))
    np.testing.assert_allclose(logits, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    print(path.stem, "robustcls" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names = sorted(path.stem for path in folder.glob("*.keras"))
    assert done.stdout.splitlines() == [f"{name} False" for name in names]


def test_every_backbone_has_an_entry_here():
    assert set(BLOCKS) == set(BACKBONES)


@pytest.mark.parametrize("size", [(64, 64), (50, 33)])
@pytest.mark.parametrize("alpha", [0.35, 1.3])
def test_mobilenet_equals_keras_applications(size, alpha):
    images = keras.Input((*size, 3))
    ours = keras.Model(images, mobilenet_v2(images, alpha=alpha, padding="keras"))
    theirs = keras.applications.MobileNetV2(
        alpha=alpha, include_top=False, weights=None, input_shape=(*size, 3)
    )
    assert [x.name for x in ours.layers if x.weights] == [
        x.name for x in theirs.layers if x.weights
    ]
    rng = np.random.default_rng(0)
    for layer in theirs.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.weights])
    ours.set_weights(theirs.get_weights())
    x = rng.normal(size=(2, *size, 3)).astype("float32")
    expected = theirs(x)
    assert np.std(expected) > 0.01
    np.testing.assert_allclose(ours(x), expected, atol=1e-4)


@pytest.mark.slow
def test_resnext_has_the_published_size():
    model = build_classifier("resnext50", input_shape=(32, 32, 3), num_classes=1000)
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == 25_028_904


def test_unknown_backbone_lists_the_known():
    with pytest.raises(InputError, match=r"densenet121, efficientnet_b2.*Did you mean 'resnext50'"):
        get_backbone("resnet50")


def test_blocks_of_a_foreign_model():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2, name="mine")(inputs), name="foreign")
    with pytest.raises(InputError, match=r"model must come from build_classifier.*'foreign'"):
        unfreezing_blocks(model)
