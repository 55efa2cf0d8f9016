import numpy as np
import pytest
from scipy import stats

from robustcls.attacks import draws, norms

KEYS = draws.derive(np.arange(400, dtype=np.uint64), 3)


def test_a_draw_is_a_function_of_its_key_alone():
    whole = draws.uniform(KEYS, (5, 2))
    np.testing.assert_array_equal(whole[[7, 3]], draws.uniform(KEYS[[7, 3]], (5, 2)))
    assert len(np.unique(whole)) == whole.size
    assert len(np.unique(draws.derive(KEYS[:1], np.arange(1000)))) == 1000
    assert draws.derive(KEYS[:1], 1, 2) != draws.derive(KEYS[:1], 2, 1)


def test_distributions():
    uniform = draws.uniform(KEYS, (100,))
    assert stats.kstest(uniform.ravel(), "uniform").pvalue > 1e-3
    # Neither neighbours in an image nor images with neighbouring keys go together.
    assert abs(np.corrcoef(uniform[:, :-1].ravel(), uniform[:, 1:].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(uniform[:-1].ravel(), uniform[1:].ravel())[0, 1]) < 0.02
    assert stats.kstest(draws.normal(KEYS, (100,)).ravel(), "norm").pvalue > 1e-3
    assert abs(draws.signs(KEYS, (100,)).mean()) < 0.02
    counts = np.bincount(draws.integers(draws.derive(KEYS[:1], np.arange(5000)), 5), minlength=5)
    assert len(counts) == 5
    assert stats.chisquare(counts).pvalue > 1e-3


def test_keys_of_images():
    images = np.random.default_rng(0).uniform(size=(3, 4, 4, 1)).astype(np.float32)
    keys = draws.image_keys(images)
    assert len(np.unique(keys)) == 3
    np.testing.assert_array_equal(draws.image_keys(images[[2, 0]]), keys[[2, 0]])


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_points_fill_the_ball_and_lie_on_the_sphere(norm):
    shape, epsilon = (1, 3, 1), 0.2
    order = np.inf if norm == "inf" else 2
    inside = norms.random_in_ball(KEYS, shape, epsilon, norm).reshape(len(KEYS), -1)
    radii = np.linalg.norm(inside, order, axis=1) / epsilon
    assert radii.max() <= 1 + 1e-6
    # The share of the ball within radius r is r to the power of its dimension.
    assert stats.kstest(radii**3, "uniform").pvalue > 1e-3
    surface = norms.random_on_sphere(KEYS, shape, epsilon, norm).reshape(len(KEYS), -1)
    np.testing.assert_allclose(np.linalg.norm(surface, order, axis=1), epsilon, rtol=1e-5)
    assert np.abs(surface.mean(0)).max() < 0.03
