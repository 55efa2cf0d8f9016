"""Explanations by other images, and by what a class is made of, where the truth is known."""

import keras
import numpy as np
import pytest

from robustcls._validation import InputError
from robustcls.explanation.concepts.concepts import find_concepts
from robustcls.explanation.examples.counterfactuals import counterfactuals
from robustcls.explanation.examples.neighbors import nearest_images
from robustcls.explanation.explainer import Explainer

SIDE = 8
layers = keras.layers


@pytest.fixture(scope="module")
def linear():
    """Class 1 when the mean of the upper half is above .5; what is below counts for nothing."""
    images = keras.Input((SIDE, SIDE, 1))
    model = keras.Model(images, layers.Dense(2)(layers.Flatten()(images)))
    weights = np.zeros((SIDE, SIDE, 2))
    weights[:4, :, 1] = 1 / 32
    model.layers[-1].set_weights([weights.reshape(-1, 2), np.array([0.5, 0])])
    return Explainer(model, batch_size=4)


@pytest.fixture(scope="module")
def grays():
    generator = np.random.default_rng(0)
    images = generator.uniform(0.1, 0.5, (6, SIDE, SIDE, 1)).astype(np.float32)
    images[3:] += 0.4
    return images


@pytest.mark.parametrize("norm", ["2", "inf"])
def test_a_counterfactual_is_the_smallest_change(linear, grays, norm):
    found = counterfactuals(linear, grays, norm=norm)
    answers = linear.predict(grays).argmax(-1)
    assert (answers == [0, 0, 0, 1, 1, 1]).all()
    assert found.success.all()
    assert (found.targets == 1 - answers).all()
    assert (linear.predict(found.images).argmax(-1) == found.targets).all()
    # To the plane: all upper pixels move alike, by what their mean misses.
    missing = np.abs(grays[:, :4].mean((1, 2, 3)) - 0.5)
    expected = missing * (np.sqrt(32) if norm == "2" else 1)
    np.testing.assert_allclose(found.distances, expected, rtol=0.03)
    if norm == "2":
        assert np.abs(found.images - grays)[:, 4:].max() < 0.02
    assert found.images.min() >= 0
    assert found.images.max() <= 1


def test_a_class_that_cannot_be_reached(grays):
    images = keras.Input((SIDE, SIDE, 1))
    model = keras.Model(images, layers.Dense(3)(layers.Flatten()(images)))
    weights = np.zeros((64, 3))
    weights[:, 1] = 0.1
    model.layers[-1].set_weights([weights, np.array([4, 0, -50])])
    found = counterfactuals(Explainer(model), grays[:2], np.array([2, 1]), steps=3)
    assert found.success.tolist() == [False, True]
    assert np.isnan(found.distances).tolist() == [True, False]
    np.testing.assert_array_equal(found.images[0], grays[0])


def test_the_nearest_are_those_of_the_same_features(grays):
    images = keras.Input((SIDE, SIDE, 1))
    means = layers.GlobalAveragePooling2D()(layers.Conv2D(2, 1, name="conv")(images))
    halves = layers.Flatten()(layers.AveragePooling2D((4, 8))(images))
    model = keras.Model(images, layers.Dense(2)(layers.Concatenate()([halves, means])))
    model.get_layer("conv").set_weights([np.zeros((1, 1, 1, 2)), np.zeros(2)])
    explainer = Explainer(model, batch_size=1)  # four of the others at a time
    others = np.concatenate([grays[:, ::-1], 0.5 * grays])
    found = nearest_images(explainer, grays, others, count=2)
    assert (found.indices[:, 0] == 6 + np.arange(6)).all()  # half as bright is the same direction
    np.testing.assert_allclose(found.similarities[:, 0], 1, atol=1e-6)
    assert (found.similarities[:, 1] <= found.similarities[:, 0] + 1e-6).all()
    pixels = np.round(255 * others).astype(np.uint8)
    again = nearest_images(explainer, grays, pixels, count=1)
    assert again.similarities[:, 0].min() > 0.9999
    for given, message in [
        ((others[:1], 2), "others must be at least 2 images; received 1"),
        ((others[:, :4], 1), r"others must be of the images' shape \(8, 8, 1\)"),
        ((others, 0), "count must be an integer >= 1"),
    ]:
        with pytest.raises(InputError, match=message):
            nearest_images(explainer, grays, given[0], count=given[1])


@pytest.fixture(scope="module")
def striped():
    """Rows, columns and dots are what its layer sees; class 0 is rows and a little dots."""
    images = keras.Input((12, 12, 1))
    maps = layers.Conv2D(3, 2, 2, activation="relu", name="parts")(images)
    model = keras.Model(images, layers.Dense(2)(layers.GlobalAveragePooling2D()(maps)))
    kernels = np.array([[[1, 1], [-1, -1]], [[1, -1], [1, -1]], [[1, -1], [-1, 1]]])
    model.get_layer("parts").set_weights([np.moveaxis(kernels, 0, -1)[:, :, None], np.zeros(3)])
    model.layers[-1].set_weights([np.array([[3, 0], [0, 1], [1, 0]]), np.zeros(2)])
    blocks = np.maximum(kernels, 0).astype(np.float32)
    generator = np.random.default_rng(0)
    chosen = generator.integers(0, 3, (8, 6, 6))
    pictures = blocks[chosen].transpose(0, 1, 3, 2, 4).reshape(8, 12, 12, 1)
    return Explainer(model, layer="parts", batch_size=4), pictures, chosen


def test_concepts_are_the_parts_and_count_what_the_class_says(striped):
    explainer, pictures, chosen = striped
    found = find_concepts(explainer, pictures, 0, count=3)
    assert found.layer == "parts"
    assert found.left < 1e-4
    # Rows first, dots next, columns last and for nothing.
    assert found.bank.argmax(1).tolist() == [0, 2, 1]
    np.testing.assert_allclose(found.bank.max(1), 1, atol=1e-3)
    for concept, kind in enumerate((0, 2, 1)):
        where = found.maps[..., concept] > 0.5 * found.maps[..., concept].max()
        np.testing.assert_array_equal(where, chosen == kind)
    # Of a sum of independent parts the index is the share of the variance: 9 to 1 for equal counts.
    rows, dots = (3.0 * (chosen == 0).sum((1, 2)), (chosen == 2).sum((1, 2)))
    shares = rows**2 / (rows**2 + dots**2)
    assert found.importance[0] == pytest.approx(shares.mean(), abs=0.1)
    assert found.importance[2] == pytest.approx(0, abs=1e-6)
    assert find_concepts(explainer, pictures, 1, count=3).bank[0].argmax() == 1


def test_concepts_of_other_images(striped):
    explainer, pictures, chosen = striped
    found = find_concepts(explainer, pictures, 0, count=3)
    maps, importance = found.of(explainer, pictures)
    np.testing.assert_allclose(maps, found.maps, atol=1e-3)
    np.testing.assert_allclose(importance, found.importance, atol=1e-3)
    # An attack that takes the rows away leaves the dots to decide.
    blocks = np.repeat(np.repeat(chosen == 0, 2, 1), 2, 2)[..., None]
    _, after = found.of(explainer, np.where(blocks, 0, pictures).astype(np.float32))
    assert after[1] > 0.9
    assert after[0] == pytest.approx(0, abs=1e-6)
    for given, message in [
        ({"label": 2}, "label must be one of the model's 2 classes; received 2"),
        ({"label": 0, "count": 4}, "count must be at most 3"),
        ({"label": -1}, "label must be an integer >= 0"),
    ]:
        with pytest.raises(InputError, match=message):
            find_concepts(explainer, pictures, **given)


def test_bad_targets(linear, grays):
    for targets, message in [
        (np.zeros(6, np.int64), "targets must be other classes than the model's answers; image 0"),
        (np.full(6, 2), r"targets must be in \[0, 2\)"),
        (np.ones(5, np.int64), "targets must be"),
    ]:
        with pytest.raises(InputError, match=message):
            counterfactuals(linear, grays, targets)
    with pytest.raises(InputError, match="received the function"):
        counterfactuals(Explainer(lambda x: x.reshape(len(x), -1)[:, :2]), grays)
