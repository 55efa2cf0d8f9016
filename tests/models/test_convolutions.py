"""The faster layers against Keras' own: same results, and really another way there."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from robustcls.models.depthwise_convolution import FastDepthwiseConv2D
from robustcls.models.pointwise_convolution import PointwiseConv2D


def twins(ours, shape, **settings):
    """Keras' layer and ours, with the same weights."""
    layers = (ours.__base__(**settings), ours(**settings))
    rng = np.random.default_rng(0)
    for layer in layers:
        layer.build(shape)
    values = [rng.normal(size=weight.shape) for weight in layers[0].weights]
    for layer in layers:
        layer.set_weights(values)
    return layers


def step(layer, images, **call):
    """Outputs and the gradients of a loss that weighs each of them differently."""

    @tf.function
    def run(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = layer(images, **call)
            weights = tf.range(tf.cast(tf.size(outputs), tf.float32))
            loss = tf.reduce_sum(tf.reshape(outputs, [-1]) * tf.sin(weights))
        return [outputs, *tape.gradient(loss, [images, *(w.value for w in layer.weights)])]

    return run(images), run.get_concrete_function(images).graph


def assert_same(ours, theirs):
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.shape == other.shape
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=2e-4)


def images(shape):
    return tf.constant(np.random.default_rng(1).normal(size=shape), tf.float32)


def operations(graph, kind):
    return [operation for operation in graph.get_operations() if operation.type == kind]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "settings",
    [{}, {"use_bias": False}, {"activation": "relu6"}, {"strides": 2}, {"kernel_size": 3}],
)
def test_pointwise_equals_keras(settings, training):
    settings = {"filters": 7, "kernel_size": 1, **settings}
    theirs, ours = twins(PointwiseConv2D, (None, 4, 3, 5), **settings)
    expected, _ = step(theirs, images((6, 4, 3, 5)))
    results, graph = step(ours, images((6, 4, 3, 5)), training=training)
    assert_same(results, expected)
    replaced = training and settings["kernel_size"] == 1 and "strides" not in settings
    assert bool(operations(graph, "MatMul")) == replaced
    assert bool(operations(graph, "Conv2D")) != replaced


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 2), (2, 4), (3, 3), (5, 2)])
@pytest.mark.parametrize("settings", [{}, {"kernel_size": 5, "use_bias": False}])
def test_depthwise_equals_keras(settings, size, training):
    settings = {"kernel_size": 3, "padding": "same", **settings}
    theirs, ours = twins(FastDepthwiseConv2D, (None, *size, 4), **settings)
    expected, _ = step(theirs, images((6, *size, 4)))
    results, graph = step(ours, images((6, *size, 4)), training=training)
    assert_same(results, expected)
    kernel = settings["kernel_size"]
    (gradient,) = operations(graph, "DepthwiseConv2dNativeBackpropFilter")
    assert gradient.inputs[0].shape[1] == (max(kernel, size[0]) if training else size[0])


@pytest.mark.parametrize(
    "settings",
    [
        {"strides": 2},
        {"padding": "valid", "kernel_size": 2},
        {"dilation_rate": 2},
        {"depth_multiplier": 2, "activation": "relu6"},
    ],
)
def test_depthwise_of_other_kinds_equals_keras(settings):
    settings = {"kernel_size": 3, "padding": "same", **settings}
    theirs, ours = twins(FastDepthwiseConv2D, (None, 2, 2, 4), **settings)
    expected, _ = step(theirs, images((6, 2, 2, 4)))
    results, _ = step(ours, images((6, 2, 2, 4)), training=True)
    assert_same(results, expected)


@pytest.mark.parametrize(
    "layer", [PointwiseConv2D(3, 1), FastDepthwiseConv2D(3, padding="same")], ids=lambda x: x.name
)
def test_unknown_sizes(layer):
    layer.build((None, None, None, 3))
    run = tf.function(
        lambda x: layer(x, training=True), [tf.TensorSpec((None, None, None, 3), tf.float32)]
    )
    assert run(images((2, 2, 4, 3))).shape == (2, 2, 4, 3)


@pytest.mark.parametrize("layer", [PointwiseConv2D(3, 1), FastDepthwiseConv2D(3)])
def test_saved_models_come_back(layer, tmp_path):
    model = keras.Sequential([keras.Input((3, 3, 3)), layer])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.layers[0]) is type(layer)
    np.testing.assert_array_equal(loaded(images((2, 3, 3, 3))), model(images((2, 3, 3, 3))))
