"""What is fitted, to which models, and what it says of images."""

import dataclasses

import keras
import numpy as np
import pytest

import robustcls as rc
from robustcls.familiarity import Energy, FamiliarityMethod


def odd(count=40):
    return np.random.default_rng(3).uniform(size=(count, 8, 8, 1)).astype(np.float32)


def softmaxed(model):
    return keras.Sequential([keras.Input((8, 8, 1)), *model.layers, keras.layers.Softmax()])


def of_bytes(model):
    x = inputs = keras.Input((8, 8, 1))
    for layer in [keras.layers.Rescaling(1 / 255), *model.layers]:
        x = layer(x)
    return keras.Model(inputs, x)


def nested(model):
    inputs = keras.Input((8, 8, 1))
    return keras.Model(inputs, keras.layers.Dropout(0.5)(model(inputs)))


def with_pixel_head(model):
    """As keras.applications' MobileNet ends: a convolution of one pixel."""
    dense = model.layers[-1]
    inputs = keras.Input((8, 8, 1))
    x = inputs
    for layer in model.layers[:-1]:
        x = layer(x)
    x = keras.layers.Reshape((1, 1, 24))(x)
    head = keras.layers.Conv2D(4, 1)
    x = keras.layers.Reshape((4,))(head(x))
    head.set_weights([dense.kernel.numpy()[None, None], dense.bias.numpy()])
    return keras.Model(inputs, keras.layers.Softmax()(x))


class Subclassed(keras.Model):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, images):
        return self.inner(images)


FORMS = {
    "softmax": (softmaxed, {}, True),
    "bytes": (of_bytes, {"input_range": (0, 255)}, True),
    "nested": (nested, {}, True),
    "pixel": (with_pixel_head, {}, True),
    "subclassed": (Subclassed, {}, False),
    "function": (lambda model: lambda images: model(images).numpy(), {}, False),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_models(form, model, images, material):
    """The same features of every form whose layers can be had; the logits of the others."""
    make, how, has_layers = FORMS[form]
    fitted = rc.familiarity.fit(make(model), images, false_alarm_rate=0.1, **how)
    assert fitted.of_layer == has_layers
    features, logits = fitted.features(images)
    expected = material.fit("vim").features(images)
    np.testing.assert_allclose(logits, expected[1], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(features, expected[not has_layers], rtol=1e-3, atol=1e-3)
    assert fitted.is_familiar(images).mean() > 0.8


def test_one_sigmoid(model, images):
    last = keras.layers.Dense(1, activation="sigmoid")
    two = keras.Sequential([keras.Input((8, 8, 1)), *model.layers[:-1], last])
    halves = rc.Split(images.images, images.labels % 2, images.ids)
    fitted = rc.familiarity.fit(
        two, halves, false_alarm_rate=0.1, method="fdbd", input_range=(0, 1)
    )
    features, logits = fitted.features(halves)
    assert fitted.of_layer
    assert logits.shape == (240, 2)
    kernel, bias = two.layers[-1].get_weights()
    np.testing.assert_allclose(logits[:, 1], (features @ kernel + bias)[:, 0], rtol=1e-4, atol=1e-5)
    assert (logits[:, 0] == 0).all()


def test_probabilities_alone(model, images):
    """Of a function that returns probabilities, the logits' mean is unknown and taken for 0."""
    plain = softmaxed(model)
    fitted = rc.familiarity.fit(
        lambda batch: plain(batch).numpy(), images, false_alarm_rate=0.1, method="energy"
    )
    _, logits = fitted.features(images)
    expected = material_logits = model(images.float_images()).numpy()
    expected = material_logits - material_logits.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(logits, expected, rtol=1e-2, atol=1e-2)


def test_later_training_changes_nothing(model, images):
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    fitted = rc.familiarity.fit(twin, images, false_alarm_rate=0.1)
    before = fitted.score(images)
    twin.set_weights([0.5 * weight for weight in twin.get_weights()])
    np.testing.assert_array_equal(fitted.score(images), before)


def test_false_alarms_stay_below_the_rate(model, images):
    """Over many draws of the held-out images, of what was not learnt from."""
    draws = np.random.default_rng(7)
    noisy = images.images[draws.integers(0, 240, 3000)]
    noisy = (noisy + draws.integers(0, 40, noisy.shape)).clip(0, 255).astype(np.uint8)
    labels = np.zeros(3000, np.int64)
    rates = []
    for start in range(0, 2000, 200):
        data = rc.Split(noisy[start : start + 200], labels[:200], np.arange(200).astype(str))
        fitted = rc.familiarity.fit(model, data, method="energy", false_alarm_rate=0.2, seed=start)
        rates.append(
            1 - fitted.is_familiar(rc.Split(noisy[2000:], labels[2000:], labels[2000:])).mean()
        )
    assert 0.12 < np.mean(rates) < 0.23


def test_saved_and_loaded(material, model, images, tmp_path):
    for method in ("vim", "msp"):
        fitted = material.fit(method)
        fitted.save(tmp_path / "familiarity.npz")
        loaded = rc.familiarity.load(tmp_path / "familiarity.npz", model)
        np.testing.assert_array_equal(loaded.score(images), fitted.score(images))
        assert loaded.method == fitted.method
        assert loaded.threshold == fitted.threshold
        assert repr(loaded) == repr(fitted)
    other = keras.models.clone_model(model)
    with pytest.raises(rc.InputError, match="must be the one that"):
        rc.familiarity.load(tmp_path / "familiarity.npz", other)
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 and no more")
    for name in ("broken.npz", "missing.npz"):
        with pytest.raises(rc.InputError, match=name):
            rc.familiarity.load(tmp_path / name, model)


def test_nearest(material, images):
    fitted = material.fit("vim")
    found = fitted.nearest(images.take(np.arange(20)), 2)
    features, _ = fitted.features(images)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    among = unit[fitted.training.places]
    for row in range(20):
        cosines = among @ unit[row]
        np.testing.assert_allclose(found.cosines[row], np.sort(cosines)[::-1][:2], atol=2e-3)
        assert list(found.ids[row]) == [f"train/{place:03d}" for place in found.places[row]]
    everything = fitted.nearest(images.take(np.arange(1)), 10_000)
    assert everything.ids.shape == (1, len(fitted.training.places))


def test_under_attack(material):
    """An attack on the score moves unfamiliar images over the threshold, and stays in its ball."""
    fitted = material.fit("vim")
    images = odd()
    refused = images[~fitted.is_familiar(images)][:16]
    assert len(refused) > 8
    attack = rc.attacks.PGD(epsilon=0.3, steps=10)
    result = attack(fitted.as_classifier(), refused, np.zeros(len(refused), int))
    assert np.abs(result.adversarial - refused).max() <= 0.3 + 1e-6
    passed = fitted.is_familiar(result.adversarial)
    np.testing.assert_array_equal(passed, result.success)
    assert passed.mean() > 0.25


def test_a_method_of_ones_own(model, images):
    class Margin(FamiliarityMethod, name="margin_for_tests"):
        def score(self, features, logits, state):
            return logits[:, 0] - logits[:, 1]

    fitted = rc.familiarity.fit(model, images, method="margin_for_tests", false_alarm_rate=0.1)
    assert isinstance(fitted.method, Margin)

    class Wide(FamiliarityMethod, name="wide_for_tests"):
        def score(self, features, logits, state):
            return logits

    class Failing(FamiliarityMethod, name="failing_for_tests"):
        def fit(self, known):
            return {"x": known.feature}

        def score(self, features, logits, state):
            return logits[:, 0]

    class Endless(FamiliarityMethod, name="endless_for_tests"):
        def score(self, features, logits, state):
            return logits[:, 0] / 0

    for name, words in (
        ("wide", "one score"),
        ("failing", "AttributeError"),
        ("endless", "finite"),
    ):
        with pytest.raises(rc.InputError, match=words):
            rc.familiarity.fit(model, images, method=f"{name}_for_tests", false_alarm_rate=0.1)
    with pytest.raises(rc.InputError, match="must define score"):

        class Empty(FamiliarityMethod):
            pass


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method": "vin"}, "Did you mean 'vim'"),
        ({"method": 3}, "method must be a name"),
        ({"false_alarm_rate": 5}, r"false_alarm_rate must be in \(0, 1\).*0.05"),
        ({"false_alarm_rate": 0.001}, "data must be at least 1998 images"),
        ({"limit": 0}, "limit"),
    ],
)
def test_bad_input(changes, words, model, images):
    with pytest.raises(rc.InputError, match=words):
        rc.familiarity.fit(model, images, **changes)


def test_too_few_in_the_validation_split(model, images):
    splits = rc.Splits(images, images.take(np.arange(5)), images, ("a", "b", "c", "d"), "made")
    with pytest.raises(rc.InputError, match=r"at least 19.*has 5.*false_alarm_rate=0.17"):
        rc.familiarity.fit(model, splits)
    assert rc.familiarity.fit(model, splits, false_alarm_rate=0.17).held_out == 5
    whole = dataclasses.replace(splits, validation=images.take(np.arange(0)))
    assert rc.familiarity.fit(model, whole, method=Energy()).held_out == 24


def test_images_of_another_shape(material):
    with pytest.raises(rc.InputError, match=r"\(8, 8, 1\); received \(9, 8, 1\)"):
        material.fit("msp").score(np.zeros((1, 9, 8, 1), np.float32))
