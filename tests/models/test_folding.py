import keras
import numpy as np
import pytest

from robustcls.models.building import build_classifier
from robustcls.models.folding import copy_folded, faster_copy, fold_batch_norm
from robustcls.models.normalization import FusedBatchNormalization

layers = keras.layers


def randomize(model, seed=0):
    """Weights and statistics as after training: none of them 0 or 1."""
    generator = np.random.default_rng(seed)
    for layer in model.layers:
        weights = [w + generator.normal(0, 0.1, w.shape) for w in layer.get_weights()]
        if isinstance(layer, layers.BatchNormalization):
            weights[-1] = generator.uniform(0.5, 2, weights[-1].shape)
        layer.set_weights(weights)
    return model


def outputs(model, count=5, seed=1):
    shape = model.inputs[0].shape[1:]
    images = np.random.default_rng(seed).uniform(size=(count, *shape)).astype(np.float32)
    return np.asarray(model(images, training=False))


def normalizations(model):
    return sum(isinstance(layer, layers.BatchNormalization) for layer in model.layers)


def small(**dense):
    return keras.Sequential(
        [
            keras.Input((9, 7, 3)),
            layers.Conv2D(4, 3, use_bias=False, padding="same"),
            FusedBatchNormalization(scale=False),
            layers.ReLU(),
            layers.DepthwiseConv2D(3, strides=2, depth_multiplier=2),
            layers.BatchNormalization(center=False),
            layers.Flatten(),
            layers.Dense(6, **dense),
            layers.BatchNormalization(),
            layers.Dense(3),
        ]
    )


def test_mobilenet_has_the_same_logits_without_batch_norm():
    model = build_classifier("mobilenet_v2", alpha=0.35, input_shape=(32, 32, 3), num_classes=10)
    randomize(model)
    before = outputs(model)
    folded = fold_batch_norm(model)
    assert normalizations(model) > 50
    assert normalizations(folded) == 0
    scale = np.abs(before).max()
    assert scale > 1e-3
    np.testing.assert_allclose(outputs(folded), before, atol=1e-4 * max(scale, 1))
    np.testing.assert_array_equal(outputs(model), before)


def test_every_kind_of_layer_and_the_refresh():
    model = randomize(small())
    folded = fold_batch_norm(model)
    assert normalizations(folded) == 0
    np.testing.assert_allclose(outputs(folded), outputs(model), rtol=1e-4, atol=1e-4)

    old = outputs(folded)
    randomize(model, seed=5)
    np.testing.assert_array_equal(outputs(folded), old)
    copy_folded(model, folded)
    np.testing.assert_allclose(outputs(folded), outputs(model), rtol=1e-4, atol=1e-4)
    assert np.abs(outputs(folded) - old).max() > 0.1


def test_what_is_not_linear_is_left_alone():
    model = randomize(small(activation="relu"))
    folded = fold_batch_norm(model)
    assert normalizations(folded) == 1
    np.testing.assert_allclose(outputs(folded), outputs(model), rtol=1e-4, atol=1e-4)


def test_a_convolution_with_two_readers_is_left_alone():
    images = keras.Input((8, 8, 1))
    x = layers.Conv2D(2, 3)(images)
    x = layers.Add()([x, layers.BatchNormalization()(x)])
    model = randomize(keras.Model(images, layers.Dense(2)(layers.Flatten()(x))))
    assert fold_batch_norm(model) is model


class Opaque(layers.Layer):
    """Has an argument that no configuration can hold."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def call(self, inputs):
        return self.function(inputs)


def unsupported():
    images = keras.Input((9, 7, 3))
    shared = layers.Conv2D(3, 3, padding="same")
    normalized = layers.BatchNormalization()(shared(shared(images)))
    opaque = layers.BatchNormalization()(layers.Conv2D(3, 3)(Opaque(lambda x: 2 * x)(images)))
    return {
        "nested": keras.Sequential([keras.Input((9, 7, 3)), small()]),
        "shared layer": keras.Model(images, normalized),
        "cannot be copied": keras.Model(images, opaque),
        "no batch norm": keras.Sequential([keras.Input((4,)), layers.Dense(2)]),
    }


@pytest.mark.parametrize("name", unsupported())
def test_unsupported_models_come_back_unchanged(name):
    model = unsupported()[name]
    assert fold_batch_norm(model) is model


def test_a_dictionary_of_outputs_stays_one():
    images = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, use_bias=False)(images)
    x = keras.layers.BatchNormalization()(x)
    model = keras.Model(images, {"features": x, "mean": keras.layers.GlobalMaxPooling2D()(x)})
    model.layers[2].set_weights([np.full(4, value, np.float32) for value in (2, 1, 0.3, 0.5)])
    folded = fold_batch_norm(model)
    assert len(folded.layers) == len(model.layers) - 1
    given = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
    expected, outputs = model(given), folded(given)
    assert outputs.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(outputs[name], expected[name], atol=1e-5)


def test_layers_that_are_in_another_model_too():
    """Sharing layers with a later model changes nothing for one that was folded before."""
    stack = [layers.Conv2D(4, 3), layers.BatchNormalization(), layers.Flatten(), layers.Dense(3)]
    model = randomize(keras.Sequential([keras.Input((6, 6, 1)), *stack]))
    folded = fold_batch_norm(model)
    later = keras.Sequential([keras.Input((6, 6, 1)), *stack, layers.Softmax()])
    randomize(model, seed=3)
    copy_folded(model, folded)
    np.testing.assert_allclose(outputs(folded), outputs(model), rtol=1e-4, atol=1e-5)
    assert normalizations(fold_batch_norm(later)) == 0
    np.testing.assert_allclose(outputs(fold_batch_norm(later)), outputs(later), atol=1e-5)


def padded(sides, padding, kernel, stride):
    return [
        keras.Input((*sides, 2)),
        layers.ZeroPadding2D(padding),
        layers.DepthwiseConv2D(kernel, strides=stride, depth_multiplier=2),
        layers.BatchNormalization(),
    ]


@pytest.mark.parametrize(
    ("sides", "padding", "kernel", "stride", "is_left_out"),
    [
        ((8, 6), ((1, 1), (1, 1)), 3, 2, True),  # torchvision's, a kernel of 4
        ((7, 5), ((1, 1), (1, 1)), 3, 2, True),
        ((8, 7), ((0, 1), (1, 1)), 3, 2, True),  # Keras'
        ((8, 8), ((2, 2), (2, 2)), 5, 2, True),
        ((8, 8), ((1, 1), (1, 1)), 3, 1, True),
        ((9, 9), ((3, 3), (3, 3)), 3, 2, False),  # the result is larger
        ((9, 9), ((2, 0), (2, 0)), 3, 2, True),
        ((9, 9), ((4, 0), (4, 0)), 5, 2, False),
        ((8, 8), ((0, 2), (0, 2)), 3, 1, False),
    ],
)
def test_zeros_around_a_depthwise_convolution(sides, padding, kernel, stride, is_left_out):
    model = randomize(keras.Sequential(padded(sides, padding, kernel, stride)))
    faster = faster_copy(model)
    left = any(isinstance(layer, layers.ZeroPadding2D) for layer in faster.layers)
    assert left != is_left_out
    np.testing.assert_allclose(outputs(faster), outputs(model), rtol=1e-4, atol=1e-5)
    assert any(isinstance(layer, layers.ZeroPadding2D) for layer in fold_batch_norm(model).layers)


@pytest.mark.parametrize("side", [16, 5])
def test_pixels_are_scaled_where_they_are_fewer(side):
    images = keras.Input((8, 8, 1))
    x = layers.Resizing(side, side)(images)
    x = layers.Rescaling([2.0, 3.0, 4.0], [-1.0, 0.5, 0.0])(layers.Concatenate()([x, x, x]))
    x = layers.BatchNormalization()(layers.Conv2D(4, 3)(x))
    model = randomize(keras.Model(images, layers.GlobalMaxPooling2D()(x)))
    faster = faster_copy(model)
    kinds = [type(layer) for layer in faster.layers]
    assert (kinds.index(layers.Resizing) > kinds.index(layers.Rescaling)) == (side > 8)
    np.testing.assert_allclose(outputs(faster), outputs(model), rtol=1e-4, atol=1e-5)


def test_what_another_layer_asks_for_too_stays_where_it_is():
    images = keras.Input((8, 8, 3))
    large = layers.Resizing(16, 16)(images)
    wide = layers.ZeroPadding2D(1)(layers.Rescaling(2.0)(large))
    x = layers.BatchNormalization()(layers.DepthwiseConv2D(3, strides=2)(wide))
    both = [layers.GlobalMaxPooling2D()(value) for value in (x, wide, large)]
    model = randomize(keras.Model(images, layers.Concatenate()(both)))
    np.testing.assert_allclose(outputs(faster_copy(model)), outputs(model), rtol=1e-4, atol=1e-5)
