"""Balls of few changed values, and Auto-PGD within the L1 ball."""

import numpy as np
import pytest

from robustcls.attacks import APGD, FAB, AutoAttack, Square, norms, sparse
from robustcls.attacks.auto_pgd.sparse_step import sparse_settings


def plainly_projected(point, center, epsilon):
    """By bisection: one amount less for all changes, none beyond the box."""
    offset = point - center
    room = np.where(offset > 0, 1 - center, center)

    def shrunk(amount):
        return np.minimum(np.maximum(np.abs(offset) - amount, 0), room)

    low, high = 0.0, np.abs(offset).max()
    if shrunk(0).sum() > epsilon:
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if shrunk(middle).sum() > epsilon else (low, middle)
    return center + np.sign(offset) * shrunk(high if shrunk(0).sum() > epsilon else 0.0)


@pytest.mark.parametrize("epsilon", [0.3, 3.0, 30.0])
def test_projection_to_ball_and_cube(epsilon):
    generator = np.random.default_rng(0)
    centers = generator.uniform(-0.2, 1.2, (6, 5, 4, 2)).clip(0, 1).astype(np.float32)
    points = (centers + generator.normal(size=centers.shape)).astype(np.float32)
    found = norms.project(points, centers, epsilon, "1").numpy()
    for point, center, result in zip(points, centers, found, strict=True):
        np.testing.assert_allclose(result, plainly_projected(point, center, epsilon), atol=1e-5)
    assert np.abs(found - centers).sum((1, 2, 3)).max() <= epsilon * (1 + 1e-5)


def test_projections_to_balls_alone():
    offsets = np.array([[3.0, -1.0, 0.5, 0.0]], np.float32).reshape(1, 2, 2, 1)
    inside = sparse.into_ball(offsets, np.float32(2.0)).numpy().ravel()
    np.testing.assert_allclose(inside, [2, 0, 0, 0], atol=1e-6)
    inside = sparse.into_ball(offsets, np.float32(3.0)).numpy().ravel()
    np.testing.assert_allclose(inside, [2.5, -0.5, 0, 0], atol=1e-6)
    np.testing.assert_allclose(sparse.into_ball(offsets, np.float32(9.0)), offsets, atol=1e-6)
    kept = sparse.keep_largest(offsets, np.float32(2.0)).numpy().ravel()
    np.testing.assert_array_equal(kept, [3, -1, 0, 0])


def test_radii_and_checks_are_the_published_ones():
    """30, 30 and 40 of 100 steps, each with a look at its first point; checks every 4 %."""
    settings = sparse_settings(2.0, 100)
    radii, counts = np.unique(settings["radii"].round(3), return_counts=True)
    np.testing.assert_allclose(radii, [2, 4, 6])
    np.testing.assert_array_equal(counts, [41, 31, 31])
    assert np.flatnonzero(settings["first"]).tolist() == [0, 31, 62]
    assert np.flatnonzero(settings["last"]).tolist() == [30, 61, 102]
    assert settings["check"][:31].sum() == 30  # 4 % of 30 steps is one.
    assert len(sparse_settings(2.0, 1)["radii"]) == 6


@pytest.mark.long
def test_at_least_as_strong_as_square_and_fab(trained):
    model, images, labels = trained
    images, labels = images[:64], labels[:64]
    ball = {"epsilon": 6.0, "norm": "1"}
    left = {
        attack.name: attack(model, images, labels).robust_accuracy
        for attack in (
            APGD(steps=40, **ball),
            FAB(steps=20, target_classes=3, **ball),
            Square(queries=150, **ball),
        )
    }
    assert 0.02 < left["apgd-ce"] <= left["fab-t"] + 0.02
    assert left["apgd-ce"] < left["square"] < 0.85
    assert left["fab-t"] < 0.6


def test_autoattack_as_published():
    ce, dlr, fab, square = AutoAttack(norm="1", epsilon=12).members(10)
    assert (ce.restarts, ce.steps, dlr.target_classes, dlr.restarts) == (5, 100, 5, 1)
    assert (fab.target_classes, fab.steps) == (9, 100)
    assert (square.queries, square.rescale, square.norm) == (5000, False, "1")
