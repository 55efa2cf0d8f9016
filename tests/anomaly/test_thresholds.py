import numpy as np
import pytest
from scipy.stats import binom

from anomaly.detection.thresholds import conformal_threshold, hold_out, smallest_sample
from robustcls import InputError


def test_it_is_the_order_statistic_of_the_definition():
    scores = np.random.default_rng(0).permutation(np.arange(1.0, 100.0))
    # n = 99 scores: k = 100 · 0.95.
    assert conformal_threshold(scores, 0.05) == 95
    assert conformal_threshold(scores, 0.01) == 99
    assert conformal_threshold(scores, 0.5) == 50
    # One score fewer asks for ⌈99 · 0.95⌉ = 95 of 98.
    assert conformal_threshold(np.arange(1.0, 99.0), 0.05) == 95


@pytest.mark.parametrize("count", [19, 20, 57, 400])
@pytest.mark.parametrize("draw", ["normal", "lognormal"])
def test_five_percent_asked_gives_five_percent_on_normals_never_seen(count, draw):
    """Over 2,000 held-out samples, each with 50 new normals of its own."""
    generator = np.random.default_rng(count)
    alarms, new = 0, 50
    for _ in range(2000):
        scores = getattr(generator, draw)(size=count + new)
        alarms += int((scores[count:] > conformal_threshold(scores[:count], 0.05)).sum())
    got = alarms / (2000 * new)
    exact = int((count + 1) * 0.05) / (count + 1)
    # Alarms that share a threshold go together, so the spread is that of the thresholds.
    spread = 4 * np.sqrt(exact * (1 - exact) / 2000 * (1 / (count + 2) + 1 / new))
    assert exact - spread < got < exact + spread
    assert got < 0.05 + spread


def test_a_large_sample_is_within_its_binomial_interval():
    generator = np.random.default_rng(1)
    threshold = conformal_threshold(generator.gamma(2, size=100_000), 0.05)
    low, high = binom.interval(0.999, 5000, 0.05)
    assert low <= (generator.gamma(2, size=5000) > threshold).sum() <= high


def test_equal_scores_raise_no_alarm():
    assert conformal_threshold(np.full(40, 0.25), 0.05) == 0.25


@pytest.mark.parametrize("rate", [0.5, 0.3, 0.1, 0.05, 0.02, 0.01, 0.001])
def test_the_smallest_sample_is_the_smallest(rate):
    count = smallest_sample(rate)
    assert conformal_threshold(np.arange(float(count)), rate) == count - 1
    with pytest.raises(InputError, match=rf"{count} normal images .*; received {count - 1}"):
        conformal_threshold(np.arange(float(count - 1)), rate)


@pytest.mark.parametrize("rate", [0, 1, -0.1, 5, float("nan"), None, "5 %", True])
def test_rates_out_of_range(rate):
    for function in (smallest_sample, lambda r: conformal_threshold(np.ones(99), r)):
        with pytest.raises(InputError, match=r"false_alarm_rate must be in \(0, 1\)"):
            function(rate)


def test_a_rate_in_percent_is_recognized():
    with pytest.raises(InputError, match=r"Did you mean 0\.05\?"):
        smallest_sample(5)


@pytest.mark.parametrize("scores", [[1.0, np.nan] * 30, [np.inf] * 60, np.ones((60, 1))])
def test_scores_must_be_finite_and_flat(scores):
    with pytest.raises(InputError, match="scores must be finite numbers"):
        conformal_threshold(scores, 0.05)


def test_holding_out():
    images = np.arange(1000)
    rest, held = hold_out(images, 0.05, seed=3)
    assert len(held) == 100
    assert np.array_equal(np.sort(np.concatenate([rest, held])), images)
    assert np.array_equal(hold_out(images, 0.05, seed=3)[1], held)
    assert not np.array_equal(hold_out(images, 0.05, seed=4)[1], held)
    assert len(hold_out(images, 0.005, seed=3)[1]) == 199
    assert len(hold_out(images[:38], 0.05, seed=3)[1]) == 19
    for count in range(2, 38):
        with pytest.raises(InputError, match=rf"received {count}\. Did you mean") as found:
            hold_out(np.zeros((count, 1)), 0.05, seed=0)
        rate = float(str(found.value).split("=")[1].rstrip("?"))
        kept, held_out = hold_out(np.zeros((count, 1)), rate, seed=0)
        assert len(kept) >= len(held_out) >= smallest_sample(rate)
    with pytest.raises(InputError, match=r"normal_images must be at least 38 .*; received 37"):
        hold_out(images[:37], 0.05, seed=3)
