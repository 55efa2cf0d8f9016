"""Attacks that look for the nearest misclassified point: one run gives every radius."""

import numpy as np
import pytest
import tensorflow as tf

from robustcls._validation import InputError
from robustcls.attacks import DDN, FAB, FMN, PGD
from robustcls.classifiers.classifier import Classifier

ATTACKS = [FMN(norm=norm) for norm in ("inf", "2", "1", "0")] + [DDN(), FAB(norm="2")]
WEIGHTS = np.random.default_rng(0).normal(size=(16, 2)).astype(np.float32)
IMAGES = np.random.default_rng(1).uniform(0.4, 0.6, (12, 4, 4, 1)).astype(np.float32)


def plane(images):
    return tf.reshape(images - 0.5, [-1, 16]) @ WEIGHTS


@pytest.fixture(scope="module")
def linear():
    model = Classifier(plane, name="plane", differentiable=True, range_is_known=True)
    return model, IMAGES, plane(IMAGES).numpy().argmax(1)


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_distances_to_a_plane(attack, linear):
    """Within the cube, they are the margin over the dual norm of the plane's normal."""
    model, images, labels = linear
    found = attack.nearest(model, images, labels)
    logits = plane(images).numpy()
    margins = np.abs(logits[:, 0] - logits[:, 1])
    normal = WEIGHTS[:, 0] - WEIGHTS[:, 1]
    if attack.norm == "0":
        # The values that do the most go to their sides, one after the other.
        ways = np.where(labels == 0, -1, 1)[:, None] * normal
        flat = images.reshape(12, 16)
        gains = np.sort(np.where(ways > 0, 1 - flat, flat) * np.abs(normal), 1)[:, ::-1]
        expected = (np.cumsum(gains, 1) < margins[:, None]).sum(1) + 1
        np.testing.assert_array_less(found.distances, expected + 1.5)
        assert (found.distances >= expected).all()
        return
    dual = {"inf": 1, "2": 2, "1": np.inf}[attack.norm]
    expected = margins / np.linalg.norm(normal, dual)
    # The last steps and the least radius of 100 steps are not much shorter.
    tolerance = 0.03 if attack.norm != "1" else 0.15
    np.testing.assert_allclose(found.distances, expected, rtol=tolerance, atol=0.007)


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_what_is_found_is_there(attack, problem):
    model, images, labels = problem((8, 8, 1), count=13)
    given = images.copy()
    found = attack.nearest(model, images, labels, batch_size=5)
    np.testing.assert_array_equal(images, given)
    offsets = (found.adversarial - images).reshape(13, -1)
    there = np.isfinite(found.distances)
    lengths = np.linalg.norm(offsets, float(attack.norm), axis=1)
    np.testing.assert_allclose(found.distances[there], lengths[there], rtol=1e-5, atol=1e-6)
    assert (found.distances[:3] == 0).all()
    assert there.mean() > 0.8
    predicted = np.argmax(model(found.adversarial), -1)
    np.testing.assert_array_equal(predicted != labels, there)
    assert found.adversarial.min() >= 0
    assert found.adversarial.max() <= 1
    again = attack.nearest(model, images, labels, batch_size=13)
    np.testing.assert_allclose(again.distances, found.distances, rtol=1e-3)


def test_one_run_gives_every_radius(problem):
    model, images, labels = problem((8, 8, 1))
    attack, radii = FMN(steps=60), [0.01, 0.02, 0.04, 0.08]
    found = attack.nearest(model, images, labels)
    curve = attack.over(model, images, labels, epsilons=radii)
    accuracies = [curve[radius].robust_accuracy for radius in radii]
    assert accuracies == pytest.approx([found.robust_accuracy(radius) for radius in radii])
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[0] > accuracies[-1]
    assert found.median == np.median(found.distances)
    for radius, result in curve.items():
        assert np.abs(result.adversarial - images).max() <= radius + 1e-6
        pgd = PGD(epsilon=radius)(model, images, labels)
        assert result.robust_accuracy <= pgd.robust_accuracy + 0.03
    assert "median distance" in str(found)


def test_a_stopped_run_goes_on(problem, tmp_path, stopped_at):
    model, images, labels = problem((8, 8, 1), count=9)
    attack = FMN(norm="2", steps=30)
    whole = attack.nearest(model, images, labels)
    with stopped_at(12):
        attack.nearest(model, images, labels, checkpoint=tmp_path)
    # A call of the attack in the same folder is another thing.
    attack(model, images, labels, checkpoint=tmp_path)
    again = attack.nearest(model, images, labels, checkpoint=tmp_path)
    np.testing.assert_allclose(again.distances, whole.distances, rtol=1e-4)


def test_bad_input(problem):
    model, images, labels = problem((8, 8, 1), count=4)
    for call, message in (
        (lambda: FMN(steps=0), "steps must be"),
        (lambda: DDN(norm="inf"), "norm must be one of 2 for ddn"),
        (lambda: FMN().over(model, images, labels, epsilons=[]), "epsilons must be one or more"),
        (lambda: FMN().over(model, images, labels, epsilons=[0.1, 2]), "epsilon must be"),
        (lambda: FMN().nearest(lambda x: x, images, labels), "model must"),
    ):
        with pytest.raises(InputError, match=message) as error:
            call()
        assert "\n" not in str(error.value)
