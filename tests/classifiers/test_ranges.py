"""Which pixels a model is made for, and what is said when it would get others."""

import keras
import numpy as np
import pytest

import robustcls as rc
from robustcls._validation import InputError
from robustcls.classifiers.ranges import preprocessing, range_of_layers
from robustcls.models.backbones import get_backbone

layers = keras.layers
SHAPE = (8, 8, 3)
BYTES, SIGNED, UNIT = (0.0, 255.0), (-1.0, 1.0), (0.0, 1.0)


def network(*first, shape=SHAPE):
    """A small network behind some first layers."""
    last = [layers.Conv2D(4, 3), layers.GlobalAveragePooling2D(), layers.Dense(3)]
    return keras.Sequential([keras.Input(shape), *first, *last])


def adapted(low, high):
    layer = layers.Normalization()
    layer.adapt(np.random.default_rng(0).uniform(low, high, (9, *SHAPE)))
    return layer


def behind(function):
    """A network behind operations rather than layers."""
    images = keras.Input(SHAPE)
    return keras.Model(images, layers.Dense(3)(layers.Flatten()(function(images))))


def own(name):
    backbone = get_backbone(name)
    pairs = zip(backbone.mean, backbone.std, strict=True)
    return layers.Rescaling([1 / s for s in backbone.std], [-m / s for m, s in pairs])


def within(*steps):
    """Layers in a model of their own, as augmentations often are."""
    return keras.Sequential([keras.Sequential(list(steps))])


class Subclassed(keras.Model):
    def __init__(self, scale):
        super().__init__()
        self.steps = [layers.Rescaling(scale), layers.Flatten(), layers.Dense(3)]

    def call(self, images):
        for step in self.steps:
            images = step(images)
        return images


MADE_FOR = {
    "in a model of its own": (
        lambda: network(layers.GaussianNoise(0.1), within(layers.Rescaling(1 / 255))),
        BYTES,
    ),
    "beside augmentation": (
        lambda: network(within(layers.RandomFlip()), within(adapted(0, 255))),
        BYTES,
    ),
    "subclassed": (lambda: Subclassed(1 / 127.5), BYTES),
    "subclassed, another scale": (lambda: Subclassed(0.1), None),
    "nothing": (lambda: network(), None),
    "bytes": (lambda: network(layers.Rescaling(1 / 255)), BYTES),
    "bytes, centered": (lambda: network(layers.Rescaling(1 / 127.5, -1)), BYTES),
    "unit, centered": (lambda: network(layers.Rescaling(2, -1)), UNIT),
    "signed": (lambda: network(layers.Rescaling(0.5, 0.5)), SIGNED),
    "statistics of bytes": (lambda: network(adapted(0, 255)), BYTES),
    "statistics of unit": (lambda: network(adapted(0, 1)), UNIT),
    "statistics of signed": (
        lambda: network(layers.Normalization(mean=[-0.1] * 3, variance=[0.2] * 3)),
        SIGNED,
    ),
    "augmentation": (lambda: network(layers.RandomFlip(), layers.Rescaling(1 / 255)), BYTES),
    "padding": (lambda: network(layers.Rescaling(1 / 127.5, -1), layers.ZeroPadding2D()), BYTES),
    "lambda": (lambda: network(layers.Lambda(lambda x: x / 255.0)), BYTES),
    "nested": (lambda: keras.Sequential([keras.Input(SHAPE), network(adapted(0, 255))]), BYTES),
    "any size": (lambda: network(layers.Rescaling(1 / 255), shape=(None, None, 3)), BYTES),
    "operations": (lambda: behind(keras.applications.mobilenet_v2.preprocess_input), BYTES),
    "BGR": (lambda: behind(keras.applications.resnet.preprocess_input), BYTES),
    "batch norm": (lambda: network(layers.BatchNormalization()), None),
    "resnext50": (lambda: network(own("resnext50")), UNIT),
    "densenet121": (lambda: network(own("densenet121")), UNIT),
    "mobilenet_v2": (lambda: network(own("mobilenet_v2")), UNIT),
}


@pytest.mark.parametrize("name", MADE_FOR)
def test_first_layers_say_which_pixels_a_model_is_made_for(name):
    make, expected = MADE_FOR[name]
    found = range_of_layers(make())
    assert (found and found[0]) == expected


def test_other_pixels_are_refused_with_what_to_pass():
    images = np.random.default_rng(0).uniform(size=(6, *SHAPE)).astype(np.float32)
    plain = network()
    model = keras.Sequential([keras.Input(SHAPE), layers.Rescaling(1 / 255), *plain.layers])
    labels = plain(images).numpy().argmax(1)
    for call in (rc.evaluate, lambda *given: rc.attacks.FGSM()(model, *given[1])):
        with pytest.raises(InputError, match=r"\(rescaling.*Did you mean input_range=\(0, 255\)"):
            call(model, (images, labels))
    for given in ({"input_range": (0, 255)}, {"preprocess": lambda images: 255 * images}):
        found = rc.evaluate(model, (images, labels), corruptions=None, **given)
        assert found["clean"].accuracy == 1
    # Said in so many words, the images go in as they are.
    raw = rc.attacks.adapt(model, input_range=(0, 1))
    raw.prepare(images)
    np.testing.assert_allclose(raw.predict(images), plain(images / 255), atol=1e-5)


@pytest.mark.parametrize("given", [(1, 0), (0, 1, 2), 255, "255", (0, np.nan), None])
def test_a_range_is_two_ascending_numbers(given):
    if given is None:
        assert preprocessing(network()) is None
        return
    with pytest.raises(InputError, match="input_range must be two ascending numbers"):
        preprocessing(input_range=given)


def test_one_of_both():
    with pytest.raises(InputError, match="preprocess must not come with input_range"):
        preprocessing(preprocess=lambda images: images, input_range=(0, 255))
    with pytest.raises(InputError, match="preprocess must be a function"):
        preprocessing(preprocess=255)
    np.testing.assert_allclose(
        preprocessing(input_range=(-1, 1))(np.array([0, 0.5, 1])), [-1, 0, 1]
    )
