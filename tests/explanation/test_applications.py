"""Models as people have them, on which other packages are known to fail."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from robustcls.explanation.explainer import Explainer
from robustcls.explanation.methods.resampling import enlarge

SIDE = 32
layers = keras.layers


@pytest.fixture(scope="module")
def backbone():
    keras.utils.set_random_seed(0)
    made = keras.applications.MobileNetV2(
        (SIDE, SIDE, 3), alpha=0.35, include_top=False, weights=None
    )
    # As if it had been trained: fresh batch norms make the mean gradients of a map 0.
    generator = np.random.default_rng(0)
    made.set_weights([w + 0.1 * generator.standard_normal(w.shape) for w in made.get_weights()])
    return made


@pytest.fixture(scope="module")
def few():
    images = np.random.default_rng(0).random((2, SIDE, SIDE, 3)).astype(np.float32)
    return images, np.array([0, 2])


def in_a_sequential(backbone):
    """The backbone as a layer of a sequential model."""
    backbone.trainable = False
    return keras.Sequential(
        [keras.Input((SIDE, SIDE, 3)), backbone, layers.GlobalAveragePooling2D(), layers.Dense(3)]
    )


def with_a_transfer_head(backbone):
    """Called in inference mode, behind augmentation, below dropout and a softmax."""
    images = keras.Input((SIDE, SIDE, 3))
    features = backbone(layers.RandomFlip("horizontal", seed=0)(images), training=False)
    pooled = layers.Dropout(0.2, seed=0)(layers.GlobalAveragePooling2D()(features))
    return keras.Model(images, layers.Dense(3, activation="softmax")(pooled))


def of_its_layers(backbone):
    """The same layers in one graph, which are part of two models then."""
    pooled = layers.GlobalAveragePooling2D()(backbone.output)
    return keras.Model(backbone.input, layers.Dense(3)(pooled))


@pytest.mark.long
@pytest.mark.parametrize(
    "make",
    [
        with_a_transfer_head,
        pytest.param(in_a_sequential, marks=pytest.mark.exhaustive),
        pytest.param(of_its_layers, marks=pytest.mark.exhaustive),
    ],
)
def test_a_network_of_keras_applications(make, backbone, few):
    images, classes = few
    model = make(backbone)
    explainer = Explainer(model, batch_size=2)
    kernel, bias = model.layers[-1].get_weights()
    parts = [backbone.get_layer(explainer.layer).output, backbone.output]
    both = keras.Model(backbone.input, parts)
    with tf.GradientTape() as tape:
        points = tf.constant(images)
        tape.watch(points)
        features, last = both(points, training=False)
        logits = tf.reduce_mean(last, (1, 2)) @ kernel + bias
        score = tf.gather(logits, classes, batch_dims=1)
    of_images, of_features = tape.gradient(score, [points, features])
    assert min(features.shape[1:3]) >= 4
    maps = explainer("gradients", images, classes)
    expected = np.maximum(of_images.numpy(), 0).max(-1)
    np.testing.assert_allclose(maps.positive, expected, atol=1e-4 * expected.max())
    weights = tf.reduce_mean(of_features, (1, 2), keepdims=True)
    expected = tf.nn.relu(tf.reduce_sum(weights * features, -1)).numpy()
    expected = enlarge(expected, SIDE, SIDE)
    found = explainer("grad_cam", images, classes).positive
    np.testing.assert_allclose(found, expected, atol=1e-3 * expected.max())
    guided = explainer("guided_backpropagation", images, classes)
    assert np.abs(guided.signed - maps.signed).max() > 0
