"""Targeted FAB: its projection against a solver, and a boundary that can be written down."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.optimize import linprog, minimize

from robustcls.attacks import FAB, PGD
from robustcls.attacks.minimum_norm.fab import towards_hyperplane


def shortest(point, normal, gap, norm):
    """The least norm that reaches the gap within the box, by a general solver."""
    size = len(point)
    bounds = [(-x, 1 - x) for x in point]
    if norm == "2":
        constraint = {"type": "eq", "fun": lambda d: normal @ d - gap}
        found = minimize(
            lambda d: d @ d, np.zeros(size), bounds=bounds, constraints=constraint, tol=1e-12
        )
        return np.sqrt(found.fun)
    within = np.block([[np.eye(size), -np.ones((size, 1))], [-np.eye(size), -np.ones((size, 1))]])
    found = linprog(
        np.r_[np.zeros(size), 1],
        A_ub=within,
        b_ub=np.zeros(2 * size),
        A_eq=[np.r_[normal, 0]],
        b_eq=[gap],
        bounds=[*bounds, (0, None)],
    )
    return found.fun


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_offsets_to_the_hyperplane_are_the_shortest(norm):
    generator = np.random.default_rng(0)
    points = generator.uniform(size=(8, 2, 3, 1)).astype(np.float32)
    normals = generator.normal(size=points.shape).astype(np.float32)
    normals[0, 0, 0] = 0
    gaps = np.array([0.3, -0.3, 0.8, -0.8, 0.01, 0, 1.0, 50], np.float32)
    offsets = towards_hyperplane(*map(tf.constant, (points, normals, gaps)), norm).numpy()
    assert (points + offsets).min() >= -1e-6
    assert (points + offsets).max() <= 1 + 1e-6
    order = np.inf if norm == "inf" else 2
    for point, normal, gap, offset in zip(points, normals, gaps, offsets, strict=True):
        point, normal, offset = point.ravel(), normal.ravel(), offset.ravel()
        if gap == 50:  # Out of reach: as far as the box allows.
            np.testing.assert_allclose(point + offset, (normal > 0).astype(float), atol=1e-6)
            continue
        assert normal @ offset == pytest.approx(gap, abs=1e-5)
        expected = shortest(point.astype(float), normal.astype(float), float(gap), norm)
        assert np.linalg.norm(offset, order) == pytest.approx(expected, abs=1e-4)


def test_a_zero_normal_moves_nothing():
    zeros = tf.zeros((2, 3, 3, 1))
    for norm in ("inf", "2"):
        offsets = towards_hyperplane(zeros + 0.5, zeros, tf.constant([1.0, -1.0]), norm)
        np.testing.assert_array_equal(offsets, zeros)


@pytest.mark.parametrize(("norm", "dual"), [("inf", 1), ("2", 2)])
def test_finds_the_nearest_boundary_of_a_linear_model(norm, dual):
    generator = np.random.default_rng(1)
    model = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(4)]
    )
    kernel = generator.normal(size=(16, 4)).astype(np.float32)
    model.set_weights([kernel, np.zeros(4, np.float32)])
    images = generator.uniform(0.45, 0.55, (24, 4, 4, 1)).astype(np.float32)
    logits = model.predict(images, verbose=0)
    labels = logits.argmax(1)
    distances = np.min(
        [
            np.where(
                labels == k,
                np.inf,
                (logits.max(1) - logits[:, k])
                / np.maximum(np.linalg.norm(kernel[:, labels] - kernel[:, [k]], dual, 0), 1e-9),
            )
            for k in range(4)
        ],
        axis=0,
    )
    epsilon = float(np.median(distances))
    assert distances.max() < 0.45
    result = FAB(epsilon=epsilon, norm=norm, steps=20, target_classes=3)(model, images, labels)
    clear = np.abs(distances / epsilon - 1) > 0.01
    np.testing.assert_array_equal(result.success[clear], (distances < epsilon)[clear])
    # It looks for the nearest misclassified point, not for the worst.
    offsets = (result.adversarial - images)[result.success].reshape(-1, 16)
    sizes = np.linalg.norm(offsets, np.inf if norm == "inf" else 2, axis=1)
    assert np.median(sizes / distances[result.success]) < 1.15


def test_as_strong_as_pgd(trained):
    model, images, labels = trained
    for norm, epsilon in (("inf", 0.02), ("2", 0.4)):
        pgd = PGD(epsilon=epsilon, norm=norm, steps=20)(model, images, labels)
        fab = FAB(epsilon=epsilon, norm=norm, steps=15, target_classes=3)(model, images, labels)
        assert fab.robust_accuracy <= pgd.robust_accuracy + 0.02
