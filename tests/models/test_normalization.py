import keras
import numpy as np
import pytest
import tensorflow as tf

from robustcls.models.normalization import FusedBatchNormalization


def pair(**settings):
    """Keras' layer and ours with the same, non-trivial weights."""
    return keras.layers.BatchNormalization(**settings), FusedBatchNormalization(**settings)


def build(layers, shape, seed=0):
    rng = np.random.default_rng(seed)
    layers[0].build(shape)
    values = [rng.uniform(0.5, 2, w.shape).astype("float32") for w in layers[0].weights]
    for layer in layers:
        if layer is not layers[0]:
            layer.build(shape)
        layer.set_weights(values)


def images(shape=(6, 5, 4, 3), seed=1, dtype="float32"):
    values = np.random.default_rng(seed).normal(1.5, 2.0, shape)
    return tf.cast(tf.constant(values, tf.float32), dtype)


def step(layer, x, training, compiled):
    """Outputs, gradients of a nonlinear loss, and the moving statistics afterwards."""
    weights = [w.value for w in (layer.gamma, layer.beta) if w is not None]

    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x, training=training)
            target = tf.reshape(
                tf.range(tf.size(outputs), dtype=tf.float32), tf.shape(outputs)
            ) / tf.cast(tf.size(outputs), tf.float32)
            loss = tf.reduce_mean(tf.square(tf.cast(outputs, tf.float32) - target))
        return [outputs, *tape.gradient(loss, [x, *weights])]

    results = (tf.function(run) if compiled else run)(x)
    return [np.asarray(r) for r in results] + [
        layer.moving_mean.numpy(),
        layer.moving_variance.numpy(),
    ]


def fused_calls(layer, x, **call):
    graph = tf.function(lambda x: layer(x, **call)).get_concrete_function(x).graph
    return sum(op.type == "FusedBatchNormV3" for op in graph.get_operations())


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "settings",
    [{}, {"scale": False}, {"center": False}, {"momentum": 0.7, "epsilon": 1e-5}, {"axis": 3}],
)
def test_equals_keras(settings, training, compiled):
    layers = pair(**settings)
    x = images()
    build(layers, x.shape)
    expected, received = (step(layer, x, training, compiled) for layer in layers)
    for a, b in zip(expected, received, strict=True):
        np.testing.assert_allclose(b, a, atol=1e-5, rtol=1e-5)
    assert fused_calls(layers[1], x, training=training) == training
    assert (fused_calls(layers[0], x, training=training)) == 0


def test_moving_variance_is_biased_down_to_a_single_value():
    for shape in ((2, 1, 1, 3), (1, 1, 1, 3)):
        layers = pair(momentum=0.5)
        x = images(shape)
        build(layers, shape)
        for layer in layers:
            layer(x, training=True)
        assert np.isfinite(layers[1].moving_variance.numpy()).all()
        for a, b in zip(layers[0].get_weights(), layers[1].get_weights(), strict=True):
            np.testing.assert_allclose(b, a, atol=1e-6)


def test_dynamic_batch_and_size():
    layers = pair()
    build(layers, (None, None, None, 3))
    signature = [tf.TensorSpec((None, None, None, 3))]
    for layer in layers:
        run = tf.function(lambda x, layer=layer: layer(x, training=True), input_signature=signature)
        for shape in ((6, 5, 4, 3), (2, 3, 3, 3)):
            run(images(shape))
    for a, b in zip(layers[0].get_weights(), layers[1].get_weights(), strict=True):
        np.testing.assert_allclose(b, a, atol=1e-5)


@pytest.mark.parametrize(("dtype", "spacing"), [("float16", 2**-10), ("bfloat16", 2**-7)])
@pytest.mark.parametrize("training", [False, True])
def test_half_precision_keeps_float32_statistics(dtype, spacing, training):
    layers = pair(dtype=f"mixed_{dtype}")
    x = images(dtype=dtype)
    build(layers, x.shape)
    keras_output, output = (layer(x, training=training) for layer in layers)
    assert output.dtype == dtype
    # One unit in the last place of numbers up to 8.
    np.testing.assert_allclose(
        tf.cast(output, "float32"), tf.cast(keras_output, "float32"), atol=8 * spacing, rtol=0
    )
    for a, b in zip(layers[0].get_weights(), layers[1].get_weights(), strict=True):
        assert b.dtype == np.float32
        np.testing.assert_allclose(b, a, atol=1e-5)
    assert fused_calls(layers[1], x, training=True) == 1


def test_frozen_layer_uses_and_keeps_its_moving_statistics():
    layers = pair()
    x = images()
    build(layers, x.shape)
    layers[1].trainable = False
    before = layers[1].get_weights()
    np.testing.assert_array_equal(layers[1](x, training=True), layers[0](x, training=False))
    for a, b in zip(before, layers[1].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ({"axis": 1}, (4, 5, 6, 3)),
        ({}, (8, 3)),
        ({}, (2, 3, 4, 5, 3)),
        pytest.param(
            {"renorm": True},
            (4, 5, 6, 3),
            marks=pytest.mark.skipif(
                not hasattr(keras.layers.BatchNormalization(), "renorm"),
                reason="this Keras has no renorm",
            ),
        ),
        ({"synchronized": True}, (4, 5, 6, 3)),
        ({"dtype": "float64"}, (4, 5, 6, 3)),
    ],
)
def test_leaves_the_rest_to_keras(settings, shape):
    layers = pair(**settings)
    x = images(shape, dtype=settings.get("dtype", "float32"))
    build(layers, shape)
    keras_output, output = (layer(x, training=True) for layer in layers)
    np.testing.assert_allclose(output, keras_output, atol=1e-6)
    assert fused_calls(layers[1], x, training=True) == 0


def test_mask_is_left_to_keras():
    layers = pair()
    x = images()
    build(layers, x.shape)
    mask = tf.constant(np.random.default_rng(2).random((6, 5, 4)) > 0.5)
    keras_output, output = (layer(x, training=True, mask=mask) for layer in layers)
    np.testing.assert_allclose(output, keras_output, atol=1e-6)


def test_saves_and_loads_without_custom_objects(tmp_path):
    inputs = keras.Input((5, 4, 3))
    model = keras.Model(inputs, FusedBatchNormalization(momentum=0.8)(inputs))
    model(images(), training=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.layers[1]) is FusedBatchNormalization
    assert loaded.layers[1].momentum == 0.8
    np.testing.assert_array_equal(loaded(images()), model(images()))


def test_second_derivatives_exist():
    layer = FusedBatchNormalization()
    x = images()
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            loss = tf.reduce_sum(layer(x, training=True) ** 3)
        penalty = tf.reduce_sum(inner.gradient(loss, x) ** 2)
    assert np.abs(outer.gradient(penalty, x)).max() > 0
