"""Randomized smoothing against a linear model, whose smoothed radius is known."""

import json

import keras
import numpy as np
import pytest
from scipy.stats import norm

from robustcls import InputError
from robustcls.evaluation.smoothing import randomized as smoothing
from robustcls.evaluation.smoothing.config import SmoothingConfig
from robustcls.evaluation.smoothing.randomized import certify, radius_of

SIDE = 8


@pytest.fixture(scope="module")
def linear():
    """Bright or dark: the boundary is at distance SIDE · |mean - 1/2| in norm 2."""
    layers = [keras.Input((SIDE, SIDE, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    model = keras.Sequential(layers)
    column = np.full(SIDE**2, 1.0)
    model.set_weights([np.stack([-column, column], 1), SIDE**2 * np.array([0.5, -0.5])])
    return model


def flat(*means):
    return np.array(means, np.float32)[:, None, None, None] * np.ones((1, SIDE, SIDE, 1), "f")


def test_radius_of_votes():
    """All of 1,000 votes: p = 0.001^(1/1000), as in the paper."""
    assert radius_of(1000, 1000, 0.5, 0.001) == pytest.approx(0.5 * norm.ppf(0.001**0.001))
    assert radius_of(500, 1000, 0.5, 0.001) == radius_of(0, 1000, 0.5, 0.001) == 0
    assert radius_of(900, 1000, 0.25, 0.001) < radius_of(950, 1000, 0.25, 0.001)
    assert radius_of(900, 1000, 0.25, 0.001) < radius_of(900, 1000, 0.25, 0.01)


def test_radii_are_below_the_distance_to_the_boundary_and_near_it(linear):
    """Noise this small is never clipped, and the smoothed model is the model."""
    images, labels = flat(0.49, 0.52, 0.5005, 0.52), np.array([0, 1, 1, 0])
    config = SmoothingConfig(sigma=0.08, samples=400, seed=3)
    found = certify(linear, (images, labels), config)
    assert found.predicted.tolist() == [0, 1, smoothing.ABSTAINED, 1]
    distance = SIDE * np.abs(images.mean((1, 2, 3)) - 0.5)
    certain = [0, 1, 3]
    assert (found.radius[certain] < distance[certain]).all()
    assert (found.radius[certain] > 0.5 * distance[certain]).all()
    assert found.radius[2] == 0
    assert found.abstained == 0.25
    assert found.accuracy() == found.accuracy(0.03) == 0.5
    assert found.accuracy(0.09) == 0.25
    assert found.accuracy(1) == 0


def test_draws_belong_to_the_image_and_the_seed(linear):
    images, labels = flat(*np.linspace(0.48, 0.52, 6)), np.ones(6, np.int64)
    whole = certify(linear, (images, labels), SmoothingConfig(sigma=0.2, samples=50))
    part = certify(linear, (images[:4], labels[:4]), SmoothingConfig(sigma=0.2, samples=50))
    np.testing.assert_array_equal(whole.radius[:4], part.radius)
    other = certify(linear, (images, labels), SmoothingConfig(sigma=0.2, samples=50, seed=1))
    assert (other.radius != whole.radius).any()


def test_one_that_was_stopped_goes_on(linear, tmp_path, monkeypatch):
    images, labels = flat(*np.linspace(0.4, 0.6, 6)), np.zeros(6, np.int64)
    config, state = SmoothingConfig(samples=20, selection=10), tmp_path / "state.json"
    whole = certify(linear, (images, labels), config)
    monkeypatch.setattr(smoothing, "_SAVE_SECONDS", 0)
    judge, judged = smoothing._judge, []

    def stop_after_four(votes, config):
        if len(judged) == 4:
            raise KeyboardInterrupt
        judged.append(votes)
        return judge(votes, config)

    monkeypatch.setattr(smoothing, "_judge", stop_after_four)
    with pytest.raises(KeyboardInterrupt):
        certify(linear, (images, labels), config, checkpoint=state)
    assert len(json.loads(state.read_text())) == 4
    judged.clear()
    resumed = certify(linear, (images, labels), config, checkpoint=state)
    assert len(judged) == 2
    np.testing.assert_array_equal(resumed.radius, whole.radius)
    np.testing.assert_array_equal(resumed.predicted, whole.predicted)
    with pytest.raises(InputError, match="holds 6 of 3"):
        certify(linear, (images[:3], labels[:3]), config, checkpoint=state)


def test_bad_input(linear):
    for settings, message in [
        ({"sigma": 0}, "sigma must be a number > 0; received 0"),
        ({"alpha": 0.7}, "alpha must be a number > 0 and <= 0.5"),
        ({"samples": 0}, "samples must be an integer >= 1"),
    ]:
        with pytest.raises(InputError, match=message):
            SmoothingConfig(**settings)
    with pytest.raises(InputError, match=r"labels must be in \[0, 2\)"):
        certify(linear, (flat(0.3), np.array([2])))


def test_the_draws_that_choose_the_class_are_no_evidence_for_it():
    """Section 3.2.2 of the paper: the class is chosen on draws of its own."""
    config = SmoothingConfig(selection=10, samples=100, sigma=0.5, alpha=0.001)
    votes = np.concatenate([np.zeros(10), np.zeros(70), np.ones(30)]).astype(np.int64)
    expected = radius_of(70, 100, 0.5, 0.001)
    assert smoothing._judge(votes, config) == (0, expected)
    assert expected < radius_of(80, 100, 0.5, 0.001)
    # Nor do the others change what was chosen: a class that loses them is abstained from.
    votes = np.concatenate([np.zeros(10), np.ones(100)]).astype(np.int64)
    assert smoothing._judge(votes, config) == (smoothing.ABSTAINED, 0.0)
