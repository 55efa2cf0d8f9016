import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from robustcls._validation import InputError
from robustcls.data.noise import NOISES, SEVERITIES, gaussian, poisson, salt_and_pepper, speckle

SEED = (3, 4)
STRENGTHS = {"gaussian": 0.05, "poisson": 60.0, "salt_and_pepper": 0.1, "speckle": 0.1}
each_noise = pytest.mark.parametrize("name", NOISES)


def flat(value: float, count: int = 64, channels: int = 3) -> np.ndarray:
    return np.full((count, 32, 32, channels), value, np.float32)


def varied(count: int = 8, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).random((count, 12, 10, channels), np.float32)


def assert_moments(sample: np.ndarray, mean: float, variance: float, fourth: float) -> None:
    """Sample mean and variance within five standard errors of the distribution's.

    `fourth` is the fourth central moment, which gives the variance's own standard error.
    """
    sample = sample.astype(np.float64).ravel()
    assert abs(sample.mean() - mean) < 5 * np.sqrt(variance / sample.size)
    assert abs(sample.var() - variance) < 5 * np.sqrt((fourth - variance**2) / sample.size)


@pytest.mark.parametrize("stddev", [0.02, 0.08])
def test_gaussian_is_normal_with_its_standard_deviation(stddev):
    noise = gaussian(flat(0.5), stddev, SEED).numpy() - 0.5
    assert_moments(noise, 0, stddev**2, 3 * stddev**4)
    assert stats.kstest(noise.ravel()[:20_000] / stddev, "norm").pvalue > 1e-3


@pytest.mark.parametrize(("value", "photons"), [(0.5, 500), (0.5, 60), (0.2, 100)])
def test_poisson_has_the_pixel_as_mean_and_its_share_of_a_photon_as_variance(value, photons):
    rate = value * photons
    noisy = poisson(flat(value), photons, SEED).numpy()
    assert_moments(noisy, value, value / photons, (rate + 3 * rate**2) / photons**4)


@pytest.mark.parametrize(("rate", "photons"), [(1.5, 6), (30.0, 100)])
def test_poisson_counts_follow_the_poisson_law(rate, photons):
    counts = poisson(flat(rate / photons), photons, SEED).numpy().astype(np.float64) * photons
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-4)
    low, high = stats.poisson.interval(0.999, rate)
    high = min(high, photons - 1)  # a pixel of 1 is the clipped rest
    edges = np.arange(low, high + 1)
    expected = stats.poisson.pmf(edges, rate)
    observed = np.array([(np.round(counts) == edge).sum() for edge in edges])
    rest = counts.size - observed.sum()
    assert (
        stats.chisquare(
            [*observed, rest], counts.size * np.array([*expected, 1 - expected.sum()])
        ).pvalue
        > 1e-3
    )


def test_black_pixels_have_no_shot_noise():
    assert not poisson(flat(0), 3, SEED).numpy().any()


@pytest.mark.parametrize("amount", [0.02, 0.3, 1.0])
def test_salt_and_pepper_replaces_its_share_half_by_black_half_by_white(amount):
    noisy = salt_and_pepper(flat(0.4), amount, SEED).numpy()
    for value, share in ((0.0, amount / 2), (1.0, amount / 2)):
        error = np.sqrt(share * (1 - share) / noisy.size)
        assert abs((noisy == value).mean() - share) < 5 * error
    assert set(np.unique(noisy)) <= {np.float32(0), np.float32(0.4), np.float32(1)}


def test_salt_and_pepper_draws_every_channel_by_itself():
    hit = salt_and_pepper(flat(0.4), 0.3, SEED).numpy() != np.float32(0.4)
    whole_pixels = hit.all(-1).mean()
    assert abs(whole_pixels - 0.3**3) < 5 * np.sqrt(0.027 / hit[..., 0].size)


def test_speckle_grows_with_the_pixel():
    noise = speckle(flat(0.4), 0.1, SEED).numpy() - np.float32(0.4)
    assert_moments(noise, 0, 0.04**2, 3 * 0.04**4)
    assert not speckle(flat(0), 0.5, SEED).numpy().any()


@each_noise
@pytest.mark.parametrize("channels", [1, 3])
def test_result_is_a_clipped_batch_of_the_same_shape(name, channels):
    images = varied(channels=channels)
    strength = {"poisson": 1.0, "salt_and_pepper": 0.9}.get(name, 2.0)
    noisy = NOISES[name](images, strength, SEED)
    assert noisy.shape == images.shape
    assert noisy.dtype == tf.float32
    assert noisy.numpy().min() == 0
    assert noisy.numpy().max() == 1


@each_noise
def test_seed_decides_every_bit(name):
    first, again, other, swapped = (
        NOISES[name](varied(), STRENGTHS[name], seed).numpy()
        for seed in ((1, 2), tf.constant([1, 2], tf.int64), (1, 3), (2, 1))
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.05
    assert (first != swapped).mean() > 0.05


@each_noise
def test_images_of_a_batch_get_noise_of_their_own(name):
    noisy = NOISES[name](flat(0.5, count=2), STRENGTHS[name], SEED).numpy()
    assert (noisy[0] != noisy[1]).mean() > 0.05


@each_noise
def test_strength_can_differ_from_image_to_image(name):
    images = flat(0.5, count=3)
    weak, strong = {"poisson": (1e6, 10.0)}.get(name, (0.0, STRENGTHS[name]))
    noisy = NOISES[name](images, tf.constant([weak, strong, weak]), SEED).numpy()
    distance = np.abs(noisy - images).mean((1, 2, 3))
    assert distance[0] < 1e-3
    assert distance[2] < 1e-3
    assert distance[1] > 0.01
    alone = NOISES[name](images, strong, SEED).numpy()
    np.testing.assert_array_equal(noisy[1], alone[1])


@each_noise
def test_same_in_a_function_and_in_a_dataset(name):
    images = varied()
    eager = NOISES[name](images, STRENGTHS[name], SEED).numpy()
    compiled = tf.function(NOISES[name])(images, tf.constant(STRENGTHS[name]), SEED).numpy()
    dataset = tf.data.Dataset.from_tensors(images)
    (mapped,) = dataset.map(lambda batch: NOISES[name](batch, STRENGTHS[name], SEED))
    np.testing.assert_allclose(compiled, eager, atol=1e-6)
    np.testing.assert_allclose(mapped, eager, atol=1e-6)


@each_noise
def test_an_empty_batch_stays_empty(name):
    empty = tf.zeros((0, 8, 8, 3))
    assert NOISES[name](empty, STRENGTHS[name], SEED).shape == (0, 8, 8, 3)


@each_noise
@pytest.mark.parametrize("scale", SEVERITIES)
def test_noise_rises_with_severity(name, scale):
    images = varied(count=64)
    distances = [
        np.square(NOISES[name](images, strength, SEED).numpy() - images).mean()
        for strength in SEVERITIES[scale][name]
    ]
    assert len(distances) == 5
    assert distances == sorted(distances)
    assert distances[0] < distances[-1] / 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gaussian(varied(), -0.1, SEED), r"stddev must be .*>= 0; received -0\.1"),
        (lambda: speckle(varied(), -1, SEED), "stddev must be .*>= 0; received -1"),
        (lambda: poisson(varied(), 0, SEED), "photons must be .*> 0; received 0"),
        (lambda: salt_and_pepper(varied(), 7, SEED), "amount must be .*<= 1; received 7"),
        (lambda: gaussian(varied(), [[0.1]], SEED), r"stddev must be a number or a tensor \[N\]"),
        (lambda: gaussian(varied()[0], 0.1, SEED), r"images must be float32 \[N, H, W, C\]"),
        (lambda: gaussian(np.zeros((1, 4, 4, 1), np.uint8), 0.1, SEED), "received uint8"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
