"""Bounds hold at every point of the ball, and say which layer they cannot see through."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import robustcls as rc
from robustcls import InputError
from robustcls.bounds import Network, certify_by_bounds, initialize_for_bounds
from robustcls.bounds.margins import backward_margins, interval_margins
from robustcls.models.depthwise_convolution import FastDepthwiseConv2D
from robustcls.models.normalization import FusedBatchNormalization
from robustcls.models.pointwise_convolution import PointwiseConv2D

layers = keras.layers
EPSILON = 0.01


def many_layers(seed=0):
    """A network of every kind of layer that bounds know."""
    keras.utils.set_random_seed(seed)
    images = keras.Input((8, 8, 1))
    x = layers.Concatenate()([images, images, images])
    x = layers.Rescaling([2.0, -2.0, 1.0], [-1.0, 1.0, 0.0])(x)
    x = layers.ZeroPadding2D(1)(x)
    x = layers.Conv2D(6, 3, strides=2, activation="relu")(x)
    x = FusedBatchNormalization()(x)
    y = FastDepthwiseConv2D(3, padding="same", use_bias=False)(x)
    y = layers.BatchNormalization()(y)
    y = layers.ReLU(6.0)(y)
    y = PointwiseConv2D(6, 1)(y)
    x = layers.Add()([x, y])
    x = layers.ReLU()(x)
    x = layers.AveragePooling2D(2, padding="same")(x)
    x = layers.Conv2D(8, 2, dilation_rate=1, padding="same")(x)
    x = layers.MaxPooling2D(2, padding="same")(x)
    x = layers.LeakyReLU(negative_slope=0.1)(x)
    x = layers.Dropout(0.5)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(10, activation="relu")(x)
    model = keras.Model(images, layers.Dense(4)(x))
    generator = np.random.default_rng(seed)
    for layer in model.layers:
        if "moving_mean" in dir(layer):
            shape = layer.gamma.shape
            layer.set_weights([generator.uniform(0.5, 1.5, shape).astype("f") for _ in range(4)])
            layer.gamma.assign(generator.normal(size=shape))
    return model


def plain(seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(6, 3, strides=2, activation="relu"),
            layers.Conv2D(8, 3),
            layers.ReLU(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10, activation="relu"),
            layers.Dense(4),
        ]
    )


@pytest.fixture
def images():
    images = np.random.default_rng(3).uniform(size=(6, 8, 8, 1)).astype(np.float32)
    images[0] = np.round(images[0])  # on the border of [0, 1]
    return images


def margins_of(model, images, epsilon, labels):
    network = Network(model)
    lower, upper = np.maximum(images - epsilon, 0), np.minimum(images + epsilon, 1)
    boxes, maps = network.boxes(tf.constant(lower), tf.constant(upper))
    labels = tf.constant(labels)
    return (
        boxes[network.output],
        interval_margins(network, boxes, labels).numpy(),
        backward_margins(network, boxes, maps, labels).numpy(),
    )


@pytest.mark.parametrize("make", [many_layers, plain])
@pytest.mark.parametrize("epsilon", [0.005, 0.05])
def test_bounds_hold_at_every_point(make, epsilon, images):
    model = make()
    labels = np.arange(6) % 4
    box, by_interval, by_lines = margins_of(model, images, epsilon, labels)
    generator = np.random.default_rng(0)
    for round_ in range(60):
        noise = generator.uniform(-epsilon, epsilon, (40, *images.shape))
        noise = epsilon * np.sign(noise) if round_ % 2 else noise  # the corners as well
        points = np.clip(images + noise, 0, 1).astype(np.float32)
        logits = model.predict_on_batch(points.reshape(-1, 8, 8, 1)).reshape(40, 6, 4)
        assert (logits >= box.lower.numpy() - 1e-4).all()
        assert (logits <= box.upper.numpy() + 1e-4).all()
        margins = logits[:, np.arange(6), labels][..., None] - logits
        assert (margins >= by_interval - 1e-4).all()
        assert (margins >= by_lines - 1e-4).all()


@pytest.mark.parametrize("make", [many_layers, plain])
def test_without_a_ball_bounds_are_the_logits(make, images):
    model = make()
    labels = np.arange(6) % 4
    box, by_interval, by_lines = margins_of(model, images, 0.0, labels)
    logits = model(images).numpy()
    margins = logits[np.arange(6), labels][:, None] - logits
    for found in (box.lower.numpy(), box.upper.numpy()):
        np.testing.assert_allclose(found, logits, atol=1e-4)
    np.testing.assert_allclose(by_interval, margins, atol=1e-4)
    np.testing.assert_allclose(by_lines, margins, atol=1e-4)


def test_lines_are_tighter_than_intervals(images):
    _, by_interval, by_lines = margins_of(plain(), images, 0.01, np.arange(6) % 4)
    others = by_interval != 0
    assert by_lines[others].mean() > by_interval[others].mean() + 1e-4


@pytest.mark.parametrize(
    ("activation", "pixel"),
    [
        (layers.ReLU(6.0), 3.0),
        (layers.ReLU(6.0), 9.0),
        (layers.ReLU(6.0, negative_slope=0.1), -3.0),
        (layers.LeakyReLU(0.2), -3.0),
        (layers.Activation("relu6"), 3.0),
    ],
)
def test_on_one_side_of_a_bend_lines_are_exact(activation, pixel):
    """Two equal units that are subtracted: intervals do not see that they are equal."""
    model = keras.Sequential(
        [
            keras.Input((1, 1, 1)),
            layers.Rescaling(1.0, pixel - 0.5),
            layers.Flatten(),
            layers.Dense(2),
            activation,
            layers.Dense(2),
        ]
    )
    subtracted = np.array([[1.0, 0.0], [-1.0, 0.0]])
    model.set_weights([np.ones((1, 2)), np.zeros(2), subtracted, np.zeros(2)])
    _, by_interval, by_lines = margins_of(model, np.full((1,) * 4, 0.5, "f"), 0.3, np.array([0]))
    np.testing.assert_allclose(by_lines, [[0.0, 0.0]], atol=1e-5)
    assert by_interval[0, 1] < -0.05 or pixel == 9.0


@pytest.mark.parametrize("activation", [layers.ReLU(0.4), layers.LeakyReLU(0.3), "max"])
def test_lines_hold_and_gain_at_bends(activation, images):
    """Near the true least margin of many points, from below, and above that of intervals."""
    keras.utils.set_random_seed(1)
    bend = layers.MaxPooling2D(2) if activation == "max" else activation
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(6, 3, strides=2),
            bend,
            layers.Conv2D(8, 1),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4),
        ]
    )
    labels = np.arange(6) % 4
    _, by_interval, by_lines = margins_of(model, images, 0.05, labels)
    generator = np.random.default_rng(0)
    changes = 0.05 * np.sign(generator.uniform(-1, 1, (500, 1, *images.shape[1:])))
    tried = np.clip(images + changes, 0, 1).astype("f").reshape(-1, *images.shape[1:])
    logits = model.predict(tried, verbose=0).reshape(500, 6, 4)
    reached = (logits[:, np.arange(6), labels][..., None] - logits).min(0)
    assert (by_lines <= reached + 1e-5).all()
    others = by_interval != 0
    assert by_lines[others].mean() > by_interval[others].mean() + 1e-3


def test_a_bound_of_two_layers_by_hand():
    model = keras.Sequential(
        [keras.Input((1, 1, 1)), layers.Flatten(), layers.Dense(2, "relu"), layers.Dense(2)]
    )
    model.set_weights([np.array([[1.0, -1.0]]), np.array([0.0, 0.5]), np.eye(2), np.zeros(2)])
    image = np.full((1, 1, 1, 1), 0.5, np.float32)
    # Pixel in [.3, .7]: hidden units in [.3, .7] and relu([-.2, .2]) = [0, .2].
    box, by_interval, by_lines = margins_of(model, image, 0.2, np.array([1]))
    np.testing.assert_allclose(box.lower, [[0.3, 0.0]], atol=1e-6)
    np.testing.assert_allclose(box.upper, [[0.7, 0.2]], atol=1e-6)
    np.testing.assert_allclose(by_interval, [[-0.7, 0.0]], atol=1e-6)
    # Below relu(.5 - x) lies 0, since its interval is as wide on either side: 0 - x >= -.7.
    np.testing.assert_allclose(by_lines, [[-0.7, 0.0]], atol=1e-6)
    # Pixel in [.2, .6], relu([-.1, .3]): the line below is .5 - x, and .5 - x - x >= -.7 at .6.
    _, by_interval, by_lines = margins_of(model, image - 0.1, 0.2, np.array([1]))
    np.testing.assert_allclose(by_interval, [[-0.6, 0.0]], atol=1e-6)
    np.testing.assert_allclose(by_lines, [[-0.7, 0.0]], atol=1e-6)
    # Above it lies .75 (.6 - x); of class 0, x - .75 (.6 - x) >= -.1 at .2, as the intervals say.
    _, by_interval, by_lines = margins_of(model, image - 0.1, 0.2, np.array([0]))
    np.testing.assert_allclose(by_interval, [[0.0, -0.1]], atol=1e-6)
    np.testing.assert_allclose(by_lines, [[0.0, -0.1]], atol=1e-6)


@pytest.fixture(scope="module")
def trained():
    """A trained network, and test images with their labels."""
    splits = rc.load("fashion_mnist_mini", image_size=8)
    model = plain()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    chosen = np.flatnonzero(splits.train.labels < 4)[:1500]
    model.fit(splits.train.float_images()[chosen], splits.train.labels[chosen], verbose=0)
    chosen = np.flatnonzero(splits.test.labels < 4)[:100]
    return model, splits.test.float_images()[chosen], splits.test.labels[chosen]


@pytest.fixture(scope="module")
def attacked(trained):
    """What the strongest PGD of these tests makes of them."""
    return rc.attacks.PGD(epsilon=EPSILON, steps=40, restarts=5)(*trained)


@pytest.mark.parametrize("bound", ["ibp", "crown"])
def test_no_attack_turns_a_certified_image(bound, trained, attacked):
    model, images, labels = trained
    found = certify_by_bounds(model, images, labels, epsilon=EPSILON, bound=bound, batch_size=32)
    assert 0.1 < found.certified_accuracy <= attacked.robust_accuracy
    assert not (found.certified & attacked.success).any()
    assert found.clean_accuracy == (np.argmax(model(images), 1) == labels).mean()
    # Those with the least margin, at 10,000 points of their ball each, half of them corners.
    certified = np.flatnonzero(found.certified)
    nearest = certified[np.argsort(found.margin[certified])[:20]]
    generator = np.random.default_rng(0)
    right = tf.function(lambda x, label: tf.reduce_all(tf.argmax(model(x), -1) == label))
    least = np.inf
    for at in nearest:
        changes = generator.uniform(-1, 1, (10_000, *images.shape[1:]))
        changes[::2] = np.sign(changes[::2])
        tried = np.clip(images[at] + EPSILON * changes, 0, 1).astype(np.float32)
        assert right(tried, labels[at])
        least = min(least, found.margin[at])
    assert 0 < least < 0.2


@pytest.mark.long
def test_what_is_certified_stands_autoattack_and_that_stands_pgd(trained):
    model, images, labels = trained
    certified = certify_by_bounds(model, images, labels, epsilon=EPSILON, bound="crown").certified
    strong, weak = (
        attack(model, images, labels)
        for attack in (
            rc.attacks.AutoAttack(epsilon=EPSILON, queries=1000),
            rc.attacks.PGD(epsilon=EPSILON),
        )
    )
    assert not (certified & strong.success).any()
    assert certified.mean() <= strong.robust_accuracy <= weak.robust_accuracy < 1


def test_initial_weights_keep_the_radius():
    model = keras.Sequential(
        [keras.Input((14, 14, 1))]
        + [layers.Conv2D(32, 3, padding="same", activation="relu") for _ in range(6)]
        + [layers.Flatten(), layers.Dense(10)]
    )

    def growth():
        network = Network(model)
        center = np.full((1, 14, 14, 1), 0.5, np.float32)
        boxes, _ = network.boxes(tf.constant(center - 0.1), tf.constant(center + 0.1))
        radii = [
            float(tf.reduce_mean(boxes[s.output].radius[:, 6:8, 6:8])) for s in network.steps[:12]
        ]
        return radii[-1] / radii[1]

    assert growth() > 100
    initialize_for_bounds(model, 1)
    assert 0.2 < growth() < 5
    before = model.get_weights()
    initialize_for_bounds(model, 1)
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize(
    ("last", "message"),
    [
        (layers.Dense(3, activation="gelu", name="odd"), "layer odd is a Dense with activation"),
        (layers.LayerNormalization(name="odd"), "layer odd is a LayerNormalization"),
        (layers.ReLU(threshold=1.0, name="odd"), "layer odd is a ReLU with a threshold"),
    ],
)
def test_a_layer_without_bounds_is_named(last, message):
    model = keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(3), last])
    with pytest.raises(InputError, match=message):
        certify_by_bounds(model, np.zeros((1, 4, 4, 1), "f"), np.array([0]), epsilon=0.1)


def test_models_of_other_forms_have_the_bounds_of_their_logits(images):
    """Probabilities, one logit of two, other pixels, models within models."""
    inner = plain()
    logits = inner.outputs[0]
    pixels = keras.Input((8, 8, 1))
    scaled = keras.Model(pixels, inner(layers.Rescaling(1 / 255)(pixels)))
    labels = np.arange(6) % 4
    expected = certify_by_bounds(inner, images, labels, epsilon=0.01)
    for model, given in (
        (keras.Model(inner.inputs[0], layers.Softmax()(logits)), {}),
        (keras.Model(inner.inputs[0], layers.Activation("sigmoid")(logits)), {}),
        (scaled, {"input_range": (0, 255)}),
    ):
        found = certify_by_bounds(model, images, labels, epsilon=0.01, **given)
        np.testing.assert_allclose(found.margin, expected.margin, atol=1e-5)
    one = layers.Dense(1, use_bias=False, name="difference")
    pair = keras.Model(inner.inputs[0], one(logits))
    one.set_weights([np.array([[-1.0], [1], [0], [0]])])
    found = certify_by_bounds(pair, images, labels % 2, epsilon=0.01)
    difference = np.asarray(pair(images))[:, 0] * np.where(labels % 2, 1, -1)
    assert (found.margin < difference).all()
    np.testing.assert_array_equal(found.predicted == labels % 2, difference > 0)


def test_a_layer_that_other_models_share_is_no_hindrance(images):
    model = plain()
    before = certify_by_bounds(model, images, np.arange(6) % 4, epsilon=0.01)
    keras.Model(model.inputs, model.layers[-1](model.layers[-2].output))
    model(keras.Input((8, 8, 1)))
    after = certify_by_bounds(model, images, np.arange(6) % 4, epsilon=0.01)
    np.testing.assert_array_equal(before.margin, after.margin)


def test_a_layer_used_twice_is_refused():
    images = keras.Input((8, 8, 1))
    twice = layers.ReLU(name="twice")
    x = layers.Flatten()(twice(layers.Conv2D(1, 1)(twice(images))))
    model = keras.Model(images, layers.Dense(2)(x))
    with pytest.raises(InputError, match=r"each layer once for bounds; twice is used 2 times"):
        Network(model)


def test_bad_settings():
    images, labels = np.zeros((1, 8, 8, 1), "f"), np.array([0])
    with pytest.raises(InputError, match="bound must be one of crown, ibp; received 'lp'"):
        certify_by_bounds(plain(), images, labels, epsilon=0.1, bound="lp")
    with pytest.raises(InputError, match=r"epsilon must be in \(0, 1\].*8/255"):
        certify_by_bounds(plain(), images, labels, epsilon=8)
