"""Every method is equal to a plain reference, image by image, written from its definition."""

import itertools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from robustcls._validation import InputError
from robustcls.explanation.explainer import METHODS, Explainer
from robustcls.explanation.methods.kernel_shap import coalitions, shapley_values
from robustcls.explanation.methods.rise import RandomMasks

SIDE = 8
layers = keras.layers
BLACK_BOX = ("occlusion", "rise", "kernel_shap")


@pytest.fixture(scope="module")
def model():
    normal = [keras.initializers.RandomNormal(stddev=0.4, seed=seed) for seed in range(4)]
    images = keras.Input((SIDE, SIDE, 3))
    maps = layers.Conv2D(5, 3, padding="same", activation="relu", kernel_initializer=normal[0])(
        images
    )
    maps = layers.Conv2D(4, 3, padding="same", kernel_initializer=normal[1], name="last")(maps)
    pooled = layers.Flatten()(layers.ReLU(6.0)(maps))
    hidden = layers.Dense(6, activation="relu", kernel_initializer=normal[2])(pooled)
    return keras.Model(images, layers.Dense(3, kernel_initializer=normal[3])(hidden), name="tiny")


@pytest.fixture(scope="module")
def explainer(model):
    return Explainer(model, layer="last", batch_size=2, masks=40, samples=3, window=3)


@pytest.fixture(scope="module")
def few():
    """Three images, so that the last batch is not full, and classes."""
    images = np.random.default_rng(0).random((3, SIDE, SIDE, 3)).astype(np.float32)
    return images, np.array([0, 2, 1])


def logit(model, image, label):
    return float(model(image[None])[0, label])


def gradient(model, image, label):
    with tf.GradientTape() as tape:
        points = tf.constant(image[None])
        tape.watch(points)
        score = model(points)[0, label]
    return tape.gradient(score, points)[0].numpy()


def slow_occlusion(explainer, model, image, label):
    lost, covered = np.zeros((2, SIDE, SIDE))
    for top, left in itertools.product((0, 1, 2, 3, 4, 5), repeat=2):
        dark = image.copy()
        dark[top : top + 3, left : left + 3] = 0
        lost[top : top + 3, left : left + 3] += logit(model, image, label) - logit(
            model, dark, label
        )
        covered[top : top + 3, left : left + 3] += 1
    return lost / covered


def slow_rise(explainer, model, image, label):
    masks = RandomMasks(explainer.masks, SIDE, SIDE, explainer.seed).make(0, explainer.masks)
    total, weight = np.zeros((2, SIDE, SIDE))
    for mask in masks:
        logits = model(image[None] * mask[None, ..., None])[0].numpy()
        total += mask * np.exp(logits[label]) / np.exp(logits).sum()
        weight += mask
    return total / weight


def slow_kernel_shap(explainer, model, image, label):
    """The same constrained least squares, the last player's value left over from the sum."""
    edges = np.arange(SIDE) * 7 // SIDE
    players = 7 * edges[:, None] + edges
    black = logit(model, 0 * image, label)
    whole = logit(model, image, label) - black
    rows, gains = [], []
    for joined in coalitions(49, explainer.masks, explainer.seed):
        kept = image * joined[players][..., None]
        rows.append(joined)
        gains.append(logit(model, kept, label) - black)
    rows, gains = np.array(rows, np.float64), np.array(gains)
    first = np.linalg.lstsq(rows[:, :-1] - rows[:, -1:], gains - rows[:, -1] * whole, rcond=None)[0]
    values = np.append(first, whole - first.sum())
    return values[players] / np.array([[(players == p).sum() for p in row] for row in players])


def slow_gradient_times_input(explainer, model, image, label):
    return (image * gradient(model, image, label)).sum(-1)


def slow_guided_backpropagation(explainer, model, image, label):
    """Back through the layers by hand, nothing negative let through a ReLU."""
    values = [tf.constant(image[None])]
    for layer in model.layers[1:]:
        values.append(layer(values[-1]))
    back = tf.one_hot([label], 3)
    for layer, before in zip(reversed(model.layers[1:]), values[-2::-1], strict=True):
        if (
            isinstance(layer, layers.ReLU)
            or getattr(layer, "activation", None) is keras.activations.relu
        ):
            back = tf.nn.relu(back)
        with tf.GradientTape() as tape:
            tape.watch(before)
            outputs = layer(before)
        back = tape.gradient(outputs, before, output_gradients=back)
    back = back[0].numpy()
    return np.maximum(back, 0).max(-1) - np.maximum(-back, 0).max(-1)


def slow_vargrad(explainer, model, image, label):
    from robustcls.attacks import draws

    found = []
    for sample in range(explainer.samples):
        key = draws.derive(np.array([explainer.seed], np.uint64), sample)
        noise = draws.normal(key, image.shape)[0] * explainer.noise * np.ptp(image)
        found.append(gradient(model, (image + noise).astype(np.float32), label))
    return np.var(found, axis=0).max(-1)


def slow_hires_cam(explainer, model, image, label):
    features = keras.Model(model.inputs[0], model.get_layer("last").output)(image[None])
    upper = keras.Sequential(model.layers[3:])
    with tf.GradientTape() as tape:
        tape.watch(features)
        score = upper(features)[0, label]
    return np.maximum((tape.gradient(score, features) * features).numpy().sum(-1)[0], 0)


@pytest.mark.parametrize(
    "slow",
    [
        slow_occlusion,
        slow_rise,
        slow_gradient_times_input,
        slow_guided_backpropagation,
        slow_vargrad,
        slow_hires_cam,
    ],
)
def test_a_method_is_what_its_definition_says(explainer, model, few, slow):
    found = explainer(slow.__name__.removeprefix("slow_"), *few)
    expected = np.stack([slow(explainer, model, *pair) for pair in zip(*few, strict=True)])
    np.testing.assert_allclose(found.signed, expected, atol=1e-5 * np.abs(expected).max())


def test_kernel_shap_is_what_its_definition_says(model, few):
    explainer = Explainer(model, batch_size=2, masks=120)
    found = explainer("kernel_shap", few[0][:1], few[1][:1])
    expected = slow_kernel_shap(explainer, model, few[0][0], few[1][0])
    np.testing.assert_allclose(found.signed[0], expected, atol=1e-4 * np.abs(expected).max())
    whole = logit(model, few[0][0], few[1][0]) - logit(model, 0 * few[0][0], few[1][0])
    np.testing.assert_allclose(found.signed.sum(), whole, rtol=1e-4)


def test_shapley_values_of_all_coalitions_are_exact():
    """Four players whose game is a table; by the average over all orders."""
    game = np.random.default_rng(0).random(16)
    game[0] = 0
    exact = np.zeros(4)
    for order in itertools.permutations(range(4)):
        joined = 0
        for player in order:
            exact[player] += (game[joined | 1 << player] - game[joined]) / math.factorial(4)
            joined |= 1 << player
    # Every coalition as often as the Shapley kernel draws it.
    weights = {size: 1 / (size * (4 - size) * math.comb(4, size)) for size in (1, 2, 3)}
    rows = [
        [number >> player & 1 for player in range(4)]
        for number in range(1, 15)
        for _ in range(round(48 * weights[number.bit_count()]))
    ]
    gains = [game[sum(bit << player for player, bit in enumerate(row))] for row in rows]
    found = shapley_values(np.array(rows), np.array([gains]), game[None, 15])
    np.testing.assert_allclose(found[0], exact, atol=1e-12)


def test_coalitions_are_drawn_by_the_shapley_kernel():
    drawn = coalitions(6, 20000, seed=0)
    np.testing.assert_array_equal(drawn[0::2] + drawn[1::2], 1)
    sizes = np.bincount(drawn.sum(axis=1).astype(int), minlength=7)
    kernel = np.array([0, *(1 / (size * (6 - size)) for size in range(1, 6)), 0])
    np.testing.assert_allclose(sizes / len(drawn), kernel / kernel.sum(), atol=0.01)


def test_masks_of_rise_leave_half_and_are_the_same_in_parts():
    masks = RandomMasks(400, 20, 13, seed=0)
    every = masks.make(0, 400)
    assert every.min() >= 0
    assert every.max() <= 1
    np.testing.assert_allclose(every.mean(axis=0), 0.5, atol=0.1)
    np.testing.assert_array_equal(every[37:41], masks.make(37, 41))


@pytest.fixture(scope="module")
def transformer():
    images = keras.Input((8, 8, 1))
    tokens = layers.Reshape((16, 6))(layers.Conv2D(6, 2, 2, name="patches")(images))
    for _ in range(2):
        mixed = layers.MultiHeadAttention(2, 3, kernel_initializer="he_normal")(tokens, tokens)
        tokens = layers.Add()([tokens, mixed])
    return keras.Model(images, layers.Dense(2)(layers.GlobalAveragePooling1D()(tokens)))


def test_attention_rollout_is_what_its_definition_says(transformer):
    images = np.random.default_rng(0).random((3, 8, 8, 1)).astype(np.float32)
    found = Explainer(transformer, batch_size=2)("attention_rollout", images, np.zeros(3, int))
    assert found.resolution == (4, 4)
    attention = [x for x in transformer.layers if isinstance(x, layers.MultiHeadAttention)]
    before = keras.Model(
        transformer.inputs[0],
        [x.input[0] if isinstance(x.input, list) else x.input for x in attention],
    )
    for at, tokens in enumerate(zip(*before(images), strict=True)):
        reached = np.eye(16)
        for layer, values in zip(attention, tokens, strict=True):
            _, scores = layer(values[None], values[None], return_attention_scores=True)
            reached = (0.5 * scores.numpy()[0].mean(0) + 0.5 * np.eye(16)) @ reached
        expected = reached.mean(axis=0).reshape(4, 4)
        np.testing.assert_allclose(
            found.positive[at, [0, -1]][:, [0, -1]], expected[[0, -1]][:, [0, -1]], rtol=1e-4
        )


def test_black_boxes_have_the_methods_that_need_outputs_alone(model, few, tmp_path):
    calls = []

    def function(images):
        calls.append(len(images))
        return model(images).numpy()

    model.export(tmp_path / "saved", verbose=False)
    settings = {"batch_size": 2, "masks": 40, "window": 3}
    keras_one, of_function = Explainer(model, **settings), Explainer(function, **settings)
    saved = Explainer(tmp_path / "saved", **settings)
    for method in BLACK_BOX:
        expected = keras_one(method, *few).signed
        for other in (of_function, saved):
            np.testing.assert_allclose(other(method, *few).signed, expected, atol=1e-5)
    assert max(calls) <= 8  # four batches at once, as images and masks
    np.testing.assert_allclose(
        saved("gradients", *few).signed, keras_one("gradients", *few).signed, atol=1e-5
    )
    for method in METHODS.built_in - set(BLACK_BOX):
        with pytest.raises(InputError, match=r"^model must be a .*Did you mean methods=\['occl"):
            of_function(method, *few)
    layered = ("grad_cam", "score_cam", "attention_rollout", "guided_backpropagation")
    for method in layered:
        with pytest.raises(InputError, match=r"cannot be told apart.*\['gradients'\]"):
            saved(method, *few)


def test_models_without_what_a_method_needs(model, few):
    with pytest.raises(InputError, match=r"must have layers of self-attention.*'tiny' has none"):
        Explainer(model)("attention_rollout", *few)
    images = keras.Input((SIDE, SIDE, 3))
    smooth = layers.Dense(3)(layers.Flatten()(layers.Conv2D(2, 3, activation="swish")(images)))
    with pytest.raises(InputError, match="model must have ReLUs for guided_backpropagation"):
        Explainer(keras.Model(images, smooth))("guided_backpropagation", *few)
    for name in ("masks", "window"):
        with pytest.raises(InputError, match=f"{name} must be an integer >= 1"):
            Explainer(model, **{name: 0})
    none = few[0][:0], few[1][:0]
    with pytest.raises(InputError, match="images"):
        Explainer(model)("occlusion", *none)
    # A window larger than the image covers all of it.
    whole = Explainer(model, window=99)("occlusion", *few)
    assert np.ptp(whole.signed, axis=(1, 2)).max() < 1e-6
