import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from robustcls._validation import InputError
from robustcls.data import augment
from robustcls.data.augment import AugmentationPolicy

NONE = AugmentationPolicy.none()
SEED = (5, 6)


def photos(count: int = 64, channels: int = 3, size: int = 16, low: float = 0.2) -> np.ndarray:
    """Random images with values in [low, 1 - low], so that jitter does not clip."""
    generator = np.random.default_rng(0)
    return generator.uniform(low, 1 - low, (count, size, size, channels)).astype(np.float32)


def only(**settings) -> AugmentationPolicy:
    return dataclasses.replace(NONE, **settings)


def only_noise(name: str, strength: float, probability: float = 1.0) -> AugmentationPolicy:
    off = {"gaussian_stddev": None, "poisson_photons": None, "salt_and_pepper_amount": None}
    return only(noise_probability=probability, **{**off, name: strength})


def test_flip_mirrors_every_second_image():
    images = photos(1000, size=4)
    out = only(horizontal_flip=True)(images, seed=SEED).numpy()
    mirrored = (out == images[:, :, ::-1]).all((1, 2, 3))
    kept = (out == images).all((1, 2, 3))
    assert (mirrored ^ kept).all()
    assert abs(mirrored.mean() - 0.5) < 5 * np.sqrt(0.25 / 1000)


@pytest.mark.parametrize(
    ("padding", "size", "pixels"), [(2, 8, 2), (0.125, 16, 2), (0.125, 28, 4), (0.125, 32, 4)]
)
def test_crop_cuts_an_exact_window_of_the_padded_image(padding, size, pixels):
    images = photos(1000, channels=1, size=size)
    out = only(crop_padding=padding)(images, seed=SEED).numpy()
    padded = np.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    matches = (windows[..., 0, :, :] == out[:, None, None, :, :, 0]).all((-2, -1))
    assert (matches.sum((1, 2)) == 1).all()
    hits = matches.sum(0)
    share = 1 / hits.size
    assert (np.abs(hits / 1000 - share) < 5 * np.sqrt(share / 1000)).all()


def test_crop_padding_follows_each_side():
    images = np.ones((200, 8, 32, 1), np.float32)
    out = only(crop_padding=0.25)(images, seed=SEED).numpy()
    assert (out == 0).all((2, 3)).sum(1).max() == 2
    assert (out == 0).all((1, 3)).sum(1).max() == 8


def test_brightness_shifts_a_whole_image_by_up_to_its_bound():
    images = photos(200)
    shifts = only(brightness=0.15)(images, seed=SEED).numpy() - images
    per_image = shifts.mean((1, 2, 3))
    np.testing.assert_allclose(
        shifts, np.broadcast_to(per_image[:, None, None, None], shifts.shape), atol=1e-6
    )
    assert -0.15 <= per_image.min() < -0.13
    assert 0.13 < per_image.max() <= 0.15


def test_contrast_scales_the_distance_to_the_channel_mean():
    images = photos(200)
    out = only(contrast=0.3)(images, seed=SEED).numpy()
    means = images.mean((1, 2), keepdims=True)
    np.testing.assert_allclose(out.mean((1, 2), keepdims=True), means, atol=1e-5)
    factors = np.sqrt(
        np.square(out - means).sum((1, 2, 3)) / np.square(images - means).sum((1, 2, 3))
    )
    assert 0.7 <= factors.min() < 0.73
    assert 1.27 < factors.max() <= 1.3001


def test_saturation_scales_hsv_saturation_alone():
    images = photos(200)
    before = tf.image.rgb_to_hsv(images).numpy()
    after = tf.image.rgb_to_hsv(only(saturation=0.4)(images, seed=SEED)).numpy()
    np.testing.assert_allclose(after[..., 2], before[..., 2], atol=1e-5)
    colourful = before[..., 1] > 0.1
    factors = np.where(colourful & (after[..., 1] < 0.99), after[..., 1] / before[..., 1], np.nan)
    per_image = np.nanmedian(factors, (1, 2))
    assert np.nanmax(np.abs(factors - per_image[:, None, None])) < 1e-3
    assert 0.6 <= per_image.min() + 1e-4 < 0.64
    assert 1.36 < per_image.max() <= 1.401


def test_hue_turns_hsv_hue_alone():
    images = photos(200)
    before = tf.image.rgb_to_hsv(images).numpy()
    after = tf.image.rgb_to_hsv(only(hue=0.1)(images, seed=SEED)).numpy()
    np.testing.assert_allclose(after[..., 1:], before[..., 1:], atol=1e-4)
    colourful = before[..., 1] > 0.1
    turns = np.where(colourful, (after[..., 0] - before[..., 0] + 0.5) % 1 - 0.5, np.nan)
    per_image = np.nanmedian(turns, (1, 2))
    assert np.nanmax(np.abs(turns - per_image[:, None, None])) < 1e-3
    assert -0.1001 <= per_image.min() < -0.08
    assert 0.08 < per_image.max() <= 0.1001


def test_colour_jitter_leaves_gray_images_alone():
    images = photos(channels=1)
    policy = only(brightness=1.0, contrast=1.0, saturation=1.0, hue=0.5)
    np.testing.assert_array_equal(policy(images, seed=SEED), images)


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_noise_reaches_its_share_of_images_and_no_other(probability):
    images = np.full((2000, 16, 16, 1), 0.5, np.float32)
    policy = only(noise_probability=probability, speckle_stddev=0.5, salt_and_pepper_amount=1.0)
    changed = (policy(images, seed=SEED).numpy() != images).any((1, 2, 3))
    error = np.sqrt(probability * (1 - probability) / 2000)
    assert abs(changed.mean() - probability) <= 5 * error


def test_kinds_of_noise_are_drawn_evenly():
    images = np.full((2000, 8, 8, 1), 0.5, np.float32)
    policy = only(
        noise_probability=1.0,
        gaussian_stddev=None,
        poisson_photons=4.0,
        salt_and_pepper_amount=1.0,
        speckle_stddev=None,
    )
    out = policy(images, seed=SEED).numpy()
    impulse = np.isin(out, np.float32([0, 0.5, 1])).all((1, 2, 3))
    assert abs(impulse.mean() - 0.5) < 5 * np.sqrt(0.25 / 2000)


@pytest.mark.parametrize(
    ("name", "strongest", "root_mean_square"),
    [
        ("gaussian_stddev", 0.1, 0.1),
        ("speckle_stddev", 0.2, 0.1),
        ("poisson_photons", 50.0, (0.5 / 50) ** 0.5),
        ("salt_and_pepper_amount", 0.1, (0.1 * 0.25) ** 0.5),
    ],
)
def test_noise_strength_spreads_up_to_the_one_given(name, strongest, root_mean_square):
    images = np.full((500, 16, 16, 3), 0.5, np.float32)
    out = only_noise(name, strongest)(images, seed=SEED).numpy()
    strength = np.sqrt(np.square(out - images).mean((1, 2, 3))) / root_mean_square
    if name == "salt_and_pepper_amount":  # the amount is proportional to the mean square
        strength = strength**2
    assert strength.max() < 1.35
    # Uniform on (0, 1]: quarters of the images below each quarter of the strength.
    quartiles = np.quantile(strength, [0.25, 0.5, 0.75])
    np.testing.assert_allclose(quartiles, [0.25, 0.5, 0.75], atol=0.1)


@pytest.mark.parametrize("shape", [(5, 32, 32, 3), (3, 28, 28, 1), (1, 9, 14, 3)])
def test_result_is_a_batch_in_range(shape):
    images = np.random.default_rng(1).random(shape, np.float32)
    images[0, :2] = 0
    images[0, 2:4] = 1
    policy = AugmentationPolicy(
        brightness=1.0,
        contrast=1.0,
        saturation=1.0,
        hue=0.5,
        noise_probability=1.0,
        gaussian_stddev=1.0,
        poisson_photons=0.5,
        salt_and_pepper_amount=1.0,
        speckle_stddev=1.0,
    )
    for number in range(8):
        out = policy(images, seed=(0, number))
        assert out.shape == shape
        assert out.dtype == tf.float32
        assert out.numpy().min() >= 0
        assert out.numpy().max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_seed_decides_every_bit(channels):
    policy = AugmentationPolicy(hue=0.1, speckle_stddev=0.1)
    compiled = tf.function(lambda batch, seed: policy(batch, seed=seed))
    images = photos(channels=channels)
    first, again, other = (
        compiled(images, tf.constant(seed, tf.int64)).numpy() for seed in ((1, 2), (1, 2), (1, 3))
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any((1, 2, 3)).mean() > 0.9
    # A count of photons may differ where the graph rounds its rate otherwise.
    assert (np.abs(policy(images, seed=(1, 2)).numpy() - first) > 1e-5).mean() < 1e-3


def test_switching_one_part_off_leaves_the_draws_of_the_others_alone():
    images = photos()
    flip, both = only(horizontal_flip=True), only(horizontal_flip=True, noise_probability=0.5)
    out, noisy = flip(images, seed=SEED).numpy(), both(images, seed=SEED).numpy()
    same = (out == noisy).all((1, 2, 3))
    assert 0.25 < same.mean() < 0.75
    assert np.abs(out - noisy).max((1, 2, 3))[same].max() == 0


def test_global_keras_state_does_not_matter():
    policy = AugmentationPolicy(hue=0.1)
    images = photos(8)
    expected = policy(images, seed=SEED).numpy()
    keras.utils.set_random_seed(99)
    keras.backend.clear_session()
    keras.config.set_dtype_policy("mixed_float16")
    augment._layers.cache_clear()
    try:
        out = policy(images, seed=SEED)
    finally:
        keras.config.set_dtype_policy("float32")
        augment._layers.cache_clear()
    np.testing.assert_array_equal(out, expected)


def test_none_changes_nothing():
    images = photos()
    np.testing.assert_array_equal(NONE(images, seed=SEED), images)


def test_noises_tell_what_images_can_get():
    policy = AugmentationPolicy(poisson_photons=None, speckle_stddev=0.3)
    expected = {"gaussian": 0.1, "salt_and_pepper": 0.07, "speckle": 0.3}
    assert policy.noises == expected
    assert dataclasses.replace(policy, noise_probability=0.0).noises == {}


def test_settings_survive_a_round_trip_through_json():
    policy = AugmentationPolicy(crop_padding=4, hue=0.05, poisson_photons=None)
    restored = AugmentationPolicy.from_config(json.loads(json.dumps(policy.get_config())))
    assert restored == policy
    assert hash(restored) == hash(policy)
    assert restored != AugmentationPolicy()
    assert AugmentationPolicy.from_config({}) == AugmentationPolicy()
    images = photos(4)
    np.testing.assert_array_equal(restored(images, seed=SEED), policy(images, seed=SEED))


def test_cannot_become_part_of_a_model():
    with pytest.raises((TypeError, ValueError)):
        AugmentationPolicy()(keras.Input((32, 32, 3)), seed=SEED)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"horizontal_flip": 1}, "horizontal_flip must be True or False; received 1"),
        ({"crop_padding": -1}, "crop_padding must be .*>= 0; received -1"),
        ({"crop_padding": 2.5}, "crop_padding must be a fraction below 1 or a whole number"),
        ({"brightness": 1.5}, r"brightness must be .*<= 1; received 1\.5"),
        ({"contrast": -0.1}, "contrast must be"),
        ({"saturation": "high"}, "saturation must be .*received 'high'"),
        ({"hue": 0.7}, r"hue must be .*<= 0\.5; received 0\.7"),
        ({"noise_probability": 2}, "noise_probability must be"),
        ({"gaussian_stddev": 8}, "gaussian_stddev must be .*<= 1; received 8"),
        ({"gaussian_stddev": 0}, "gaussian_stddev must be .*> 0"),
        ({"poisson_photons": 0}, "poisson_photons must be .*> 0"),
        ({"salt_and_pepper_amount": float("nan")}, "salt_and_pepper_amount must be"),
        ({"speckle_stddev": -0.1}, "speckle_stddev must be"),
        ({"brightnes": 0.1}, "received 'brightnes'. Did you mean 'brightness'?"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(InputError, match=message):
        AugmentationPolicy.from_config(settings)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 8, 8, 3), np.uint8), "images must be float32 .*received uint8"),
        (np.zeros((8, 8, 3), np.float32), "images must be float32 .*received float32 of shape"),
        (np.zeros((2, 8, 8, 4), np.float32), "images must have 1 or 3 channels"),
    ],
)
def test_bad_images_are_named(images, message):
    with pytest.raises(InputError, match=message):
        AugmentationPolicy()(images, seed=SEED)
