import keras
import numpy as np
import pytest
import tensorflow as tf

from robustcls.models.grouped_convolution import GroupedConv2D


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"strides": 2},
        {"padding": "same", "use_bias": False},
        {"dilation_rate": 2},
        {"groups": 8, "filters": 16, "strides": 2},  # depthwise
        {"groups": 8, "filters": 8, "padding": "same", "dilation_rate": 2},
    ],
)
def test_equals_keras_in_values_and_gradients(settings):
    settings = {"filters": 12, "groups": 4, "kernel_size": 3, **settings}
    layers = [kind(**settings) for kind in (keras.layers.Conv2D, GroupedConv2D)]
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 9, 8, 8)), tf.float32)
    results = []
    for layer in layers:
        layer.build(x.shape)
        layer.set_weights(layers[0].get_weights())
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            loss = tf.reduce_sum(y**2)
        results.append([y, *tape.gradient(loss, [x, *layer.trainable_weights])])
    for expected, received in zip(*results, strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("groups", [2, 4])
def test_needs_no_compiler(groups):
    layer = GroupedConv2D(8, 3, groups=groups)
    graph = tf.function(layer).get_concrete_function(tf.TensorSpec((1, 5, 5, 4))).graph
    names = {op.type for op in graph.get_operations()}
    assert {2: "Conv2D", 4: "DepthwiseConv2dNative"}[groups] in names
    assert not any("Call" in name for name in names)
