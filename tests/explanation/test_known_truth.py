"""Models of which it is known where they look: every verdict on their maps must be right."""

import json

import keras
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, sobel

from robustcls._validation import InputError
from robustcls.explanation.explainer import METHODS, Explainer
from robustcls.explanation.methods.maps import Maps
from robustcls.explanation.quality.assessment import assess
from robustcls.explanation.quality.faithfulness import faithfulness

SIDE = 16
layers = keras.layers
# What needs no gradient.
BLACK_BOX = ("score_cam", "occlusion", "rise", "kernel_shap")


def edges(images, classes):
    gray = images.mean(-1)
    return Maps(np.hypot(sobel(gray, 1), sobel(gray, 2)).astype(np.float32))


@pytest.fixture(scope="module")
def smooth():
    noise = np.random.default_rng(0).random((24, SIDE, SIDE, 1))
    images = gaussian_filter(noise, (0, 1.5, 1.5, 0))
    low, high = images.min((1, 2), keepdims=True), images.max((1, 2), keepdims=True)
    return ((images - low) / (high - low)).astype(np.float32)


def patch(*inside):
    """A model of rows 4 to 9 and columns 4 to 9 alone."""
    images = keras.Input((SIDE, SIDE, 1))
    outputs = layers.Cropping2D(((4, 6), (4, 6)))(images)
    for layer in inside:
        outputs = layer(outputs)
    return keras.Model(images, outputs)


def normal(seed):
    return keras.initializers.RandomNormal(stddev=1.0, seed=seed)


def linear_patch():
    return patch(layers.Flatten(), layers.Dense(4, kernel_initializer=normal(1)))


def convolutional_patch():
    return patch(
        layers.Conv2D(8, 3, activation="relu", kernel_initializer=normal(1)),
        layers.Conv2D(8, 3, activation="relu", kernel_initializer=normal(2)),
        layers.Flatten(),
        layers.Dense(4, kernel_initializer=normal(3)),
    )


def inside():
    place = np.zeros((SIDE, SIDE), bool)
    place[4:10, 4:10] = True
    return place


def mark(bright):
    """A model of how bright, or dark, the corner of 4x4 is, which has a watermark."""
    images = keras.Input((SIDE, SIDE, 1))
    outputs = layers.Flatten()(layers.Cropping2D(((0, 12), (0, 12)))(images))
    model = keras.Model(images, layers.Dense(2)(outputs))
    kernel = np.linspace(0.5, 1.5, 16)[:, None] * [[0, 1 if bright else -1]]
    model.layers[-1].set_weights([kernel, np.array([0, -8 if bright else 8])])
    return model


def stamped(images, bright):
    marked = 0.3 + 0.4 * images
    marked[:, :4, :4] = bright
    return marked


@pytest.mark.parametrize("bright", [1, 0])
def test_a_planted_watermark(bright, smooth):
    """Also a black one, which black does nothing to."""
    images = stamped(smooth, bright)
    explainer = Explainer(mark(bright))
    classes = np.ones(len(images), np.int64)
    assert (explainer.predict(images).argmax(-1) == classes).all()
    corner = Maps(np.zeros(images.shape[:3], np.float32))
    corner.positive[:, :4, :4] = 1
    elsewhere = Maps(np.zeros(images.shape[:3], np.float32))
    elsewhere.positive[:, 8:12, 8:12] = 1
    assert faithfulness(
        explainer, explainer("gradients", images, classes), images, classes
    ).beats_random
    assert faithfulness(explainer, corner, images, classes).beats_random
    assert not faithfulness(explainer, elsewhere, images, classes).beats_random
    # A black mark is what integrated gradients begin with, so they cannot see it.
    found = faithfulness(
        explainer, explainer("integrated_gradients", images, classes), images, classes
    )
    assert found.beats_random == bool(bright)


def test_what_speaks_against_the_class_is_ranked_last(smooth):
    """A patch for the class and a stronger one against it, as of a cat beside a dog."""
    images = keras.Input((SIDE, SIDE, 1))
    model = keras.Model(images, layers.Dense(2)(layers.Flatten()(images)))
    weights = np.zeros((SIDE, SIDE, 2))
    weights[2:7, 2:7, 0], weights[9:14, 9:14, 0] = 0.5, -0.6
    model.layers[-1].set_weights([weights.reshape(-1, 2), np.zeros(2)])
    explainer = Explainer(model)
    classes = np.zeros(len(smooth), np.int64)
    maps = explainer("integrated_gradients", smooth, classes)
    found = faithfulness(explainer, maps, smooth, classes)
    assert found.beats_random
    by_size = faithfulness(explainer, Maps(np.abs(maps.signed)), smooth, classes)
    assert found.gain.mean > by_size.gain.mean + 0.1


@pytest.mark.parametrize("bias", [0.0, 3.0])
def test_a_constant_model_has_nothing_to_explain(bias, smooth):
    images = keras.Input((SIDE, SIDE, 1))
    model = keras.Model(
        images, layers.Dense(2, kernel_initializer="zeros")(layers.Flatten()(images))
    )
    model.layers[-1].set_weights([np.zeros((SIDE * SIDE, 2)), np.array([bias, 0])])
    explainer = Explainer(model)
    classes = np.zeros(len(smooth), np.int64)
    found = assess(explainer, {"gradients": "gradients", "edges": edges}, smooth, classes)
    assert found["gradients"].verdict == "Says nothing: 24 of 24 maps are empty."
    assert found["gradients"].randomization is None
    assert found["gradients"].stability is None
    assert found["edges"].verdict == "Not shown to be better than random maps."
    assert json.loads(json.dumps(found["gradients"].as_dict()))["randomization"] is None


def test_a_network_without_weights_is_not_said_to_survive_random_ones(smooth):
    """An edge detector as a model: maps of edges are right, and there is nothing to shuffle."""
    images = keras.Input((SIDE, SIDE, 1))
    steps = keras.ops.abs(images[:, 1:] - images[:, :-1])
    strength = 4 * keras.ops.sum(steps, (1, 2))
    model = keras.Model(images, keras.ops.concatenate([0 * strength + 8, strength], -1))
    explainer = Explainer(model)
    classes = np.ones(len(smooth), np.int64)
    found = assess(explainer, ["gradients"], smooth, classes)["gradients"]
    assert found.randomization is None
    assert "survives" not in found.verdict


def rounded(images):
    return keras.ops.round(images * 255) / 255


def decided(images):
    return keras.ops.one_hot(keras.ops.argmax(images, -1), 1)


def stopped(images):
    return keras.ops.stop_gradient(images)


def counted(images):
    return keras.ops.cast(keras.ops.cast(images * 255, "int32"), "float32")


def compared(images):
    return keras.ops.cast(images > 0.5, "float32")


@pytest.mark.parametrize(
    ("cut", "late"),
    [
        (rounded, True),
        (counted, False),
        *(
            pytest.param(cut, late, marks=pytest.mark.exhaustive)
            for cut in (decided, stopped, compared)
            for late in (False, True)
        ),
    ],
)
def test_models_without_a_gradient_get_one_line(cut, late, smooth):
    images = keras.Input((SIDE, SIDE, 1))
    outputs = images if late else cut(images)
    outputs = layers.Conv2D(2, 3, activation="relu", name="conv")(outputs)
    outputs = layers.GlobalAveragePooling2D()(cut(outputs[..., :1]) if late else outputs)
    explainer = Explainer(keras.Model(images, layers.Dense(3)(outputs)), layer="conv")
    few, classes = smooth[:2], np.zeros(2, np.int64)
    explainer.samples = explainer.steps = 1
    for method in METHODS.built_in - {"attention_rollout"}:
        if (METHODS[method].uses_layer and not late) or method in BLACK_BOX:
            explainer(method, few, classes)  # the layer comes after the cut, or needs no gradient
            continue
        with pytest.raises(InputError, match="model must be differentiable; its logits have no"):
            explainer(method, few, classes)


def test_class_activation_maps_of_a_transformer_are_not_of_its_patches_by_silence():
    images = keras.Input((16, 16, 1))
    patches = layers.Conv2D(8, 4, 4, name="patches")(images)
    tokens = layers.Reshape((16, 8))(patches)
    mixed = layers.MultiHeadAttention(2, 4, name="attention")(tokens, tokens)
    pooled = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(mixed))
    model = keras.Model(images, layers.Dense(2)(pooled), name="vit")
    few, classes = np.zeros((1, 16, 16, 1), np.float32), np.zeros(1, np.int64)
    with pytest.raises(InputError, match=r"layer must be named for 'vit'.*layer='patches'"):
        Explainer(model)("grad_cam", few, classes)
    assert Explainer(model, layer="patches").layer == "patches"


@pytest.mark.parametrize("make", [linear_patch, convolutional_patch])
def test_a_model_of_one_patch(make, smooth):
    model = make()
    explainer = Explainer(model)
    classes = model.predict(smooth, verbose=0).argmax(-1)
    methods = {name: name for name in ("gradients", "integrated_gradients")} | {"edges": edges}
    found = assess(explainer, methods, smooth, classes)
    for method in ("gradients", "integrated_gradients"):
        maps = explainer(method, smooth, classes)
        assert np.abs(maps.signed)[:, ~inside()].max() == 0
        assert found[method].randomization.mean < 0.5, method
        assert found[method].verdict == "Finds what counts.", method
    assert found["edges"].verdict.startswith("Does not explain this model")
