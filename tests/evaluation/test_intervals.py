import pytest

from robustcls.evaluation.intervals import clopper_pearson, lower_bound, measurement


def test_intervals_are_clopper_pearson():
    """Figures of the textbook case: 0 of 10 gives [0, 0.3085]."""
    assert measurement("x", 0, 10).high == pytest.approx(0.3085, abs=1e-4)
    assert measurement("x", 0, 10).low == 0
    assert measurement("x", 10, 10).low == pytest.approx(1 - 0.3085, abs=1e-4)
    assert measurement("x", 10, 10).high == 1
    half = measurement("x", 50, 100)
    assert (half.low, half.high) == pytest.approx((0.3983, 0.6017), abs=1e-4)


def test_bounds_are_what_the_binomial_says():
    """With 10 of 10, the probability p of the bound has p ** 10 = alpha."""
    assert lower_bound(10, 10, 0.001) == pytest.approx(0.001 ** (1 / 10))
    assert lower_bound(0, 10, 0.001) == 0
    assert clopper_pearson(7, 10)[0] == lower_bound(7, 10, 0.025)
    assert clopper_pearson(7, 10, alpha=0.5)[0] > clopper_pearson(7, 10)[0]
