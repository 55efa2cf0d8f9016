"""Each corruption against the benchmark's definition, written out plainly or by another library."""

import io

import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image

from robustcls import InputError
from robustcls.data import noise
from robustcls.evaluation.corruptions import blurs, digital, fog, scenes, tones, warps, weather
from robustcls.evaluation.corruptions.corruption import (
    CORRUPTIONS,
    NOISE_CORRUPTIONS,
    SEVERITIES,
    corrupt,
)
from robustcls.evaluation.corruptions.registry import EXTRA, PUBLISHED

DRAWN = ("glass_blur", "elastic_transform")
SHAPES = [(20, 24, 3), (9, 16, 1)]


def images_of(shape, count=4):
    """Blobs rather than noise, in multiples of 1/255."""
    draws = np.random.default_rng(0).uniform(size=(count, *shape))
    smooth = scipy.ndimage.gaussian_filter(draws, (0, 2, 2, 0))
    low, high = smooth.min(), smooth.max()
    return (np.round(255 * (smooth - low) / (high - low)) / 255).astype(np.float32)


@pytest.fixture(params=SHAPES, ids=["colour", "gray"])
def images(request):
    return images_of(request.param)


@pytest.mark.parametrize("stddev", [0.4, 1, 6])
def test_gaussian_blur(images, stddev):
    expected = scipy.ndimage.gaussian_filter(
        images.astype(np.float64), (0, stddev, stddev, 0), mode="nearest", truncate=4
    )
    np.testing.assert_allclose(blurs.gaussian_blur(images, stddev), expected, atol=1e-5)


@pytest.mark.parametrize(("radius", "alias_blur"), [(0.5, 0.6), (3, 0.1), (6, 0.5), (10, 0.5)])
def test_defocus_blur(images, radius, alias_blur):
    reach = max(8, radius)
    places = np.arange(-reach, reach + 1)
    if radius == 0.5:
        places = np.arange(-8, 9)
    disk = (np.square(places[:, None]) + np.square(places) <= radius**2).astype(np.float64)
    disk /= disk.sum()
    rim = np.arange(-1, 2) if radius <= 8 else np.arange(-2, 3)
    rim = np.exp(-0.5 * np.square(rim / alias_blur))
    soft = np.outer(rim, rim) / rim.sum() ** 2
    kernel = scipy.ndimage.correlate(disk, soft, mode="mirror")
    expected = scipy.ndimage.correlate(
        images.astype(np.float64), kernel[None, :, :, None], mode="mirror"
    )
    np.testing.assert_allclose(
        blurs.defocus_blur(images, radius, alias_blur), np.clip(expected, 0, 1), atol=1e-5
    )


def test_motion_blur(images):
    angles = np.array([-45.0, 0.0, 17.0, 44.0], np.float32)
    blurred = blurs.motion_blur(images, 6, 1.5, angles).numpy()
    weights = [np.exp(-(step**2) / (2 * 1.5**2)) for step in range(13)]
    height, width = images.shape[1:3]
    for image, angle, result in zip(images, np.radians(angles), blurred, strict=True):
        expected = np.zeros_like(image)
        for step, weight in enumerate(weights):
            down = int(np.ceil(step * np.sin(angle) - 0.5))
            right = int(np.ceil(step * np.cos(angle) - 0.5))
            rows = np.clip(np.arange(height) + down, 0, height - 1)
            columns = np.clip(np.arange(width) + right, 0, width - 1)
            expected += weight / sum(weights) * image[rows][:, columns]
        np.testing.assert_allclose(result, expected, atol=1e-5)


def plain_plasma(draws, decay):
    """Diamond-square on a torus, point by point, drawing from `draws` where they are used."""
    side = len(draws)
    heights, amplitude, step = np.zeros((side, side)), 100.0, side
    while step >= 2:
        half = step // 2
        for y in range(half, side, step):
            for x in range(half, side, step):
                corners = [
                    heights[(y + dy) % side, (x + dx) % side]
                    for dy in (-half, half)
                    for dx in (-half, half)
                ]
                heights[y, x] = np.mean(corners) + amplitude**2 * draws[y, x]
        before = heights.copy()
        for y in range(0, side, half):
            for x in range((y // half + 1) % 2 * half, side, step):
                around = [
                    before[(y + dy) % side, (x + dx) % side]
                    for dy, dx in ((-half, 0), (half, 0), (0, -half), (0, half))
                ]
                heights[y, x] = np.mean(around) + amplitude**2 * draws[y, x]
        step, amplitude = half, amplitude / decay
    heights -= heights.min()
    return heights / heights.max()


def test_fog_is_made_of_fractal_clouds(images):
    draws = np.random.default_rng(0).uniform(-1, 1, (2, 16, 16)).astype(np.float32)
    clouds = fog.plasma_fractal(draws, 2.5)
    for cloud, draw in zip(clouds.numpy(), draws, strict=True):
        np.testing.assert_allclose(cloud, plain_plasma(draw, 2.5), atol=1e-5)
    flat = np.full((1, 16, 16, 1), 0.4, np.float32)
    foggy = fog.fog(flat, 0.75, clouds[:1])[0, :, :, 0]
    expected = (0.4 + 0.75 * clouds[0]) * 0.4 / (0.4 + 0.75)
    np.testing.assert_allclose(foggy, expected, atol=1e-6)
    assert np.ptp(corrupt(images, "fog", 5).numpy() - images) > 0.1


def test_brightness_and_contrast(images):
    if images.shape[-1] == 3:
        hsv = rgb_to_hsv(images)
        hsv[..., 2] = np.clip(hsv[..., 2] + 0.3, 0, 1)
        np.testing.assert_allclose(tones.brightness(images, 0.3), hsv_to_rgb(hsv), atol=1e-5)
    else:
        expected = np.clip(images + 0.3, 0, 1)
        np.testing.assert_allclose(tones.brightness(images, 0.3), expected, atol=1e-6)
    means = images.mean((1, 2), keepdims=True)
    expected = np.clip((images - means) * 0.4 + means, 0, 1)
    np.testing.assert_allclose(tones.contrast(images, 0.4), expected, atol=1e-6)


@pytest.mark.parametrize(("factor", "shift"), [(0.3, 0), (2, 0.1), (30, 0.2)])
def test_saturate(factor, shift):
    images = images_of(SHAPES[0])
    images[0, :5] = images[0, :5, :, :1]
    hsv = rgb_to_hsv(images)
    hsv[..., 1] = np.clip(factor * hsv[..., 1] + shift, 0, 1)
    np.testing.assert_allclose(tones.saturate(images, factor, shift), hsv_to_rgb(hsv), atol=2e-5)


def published_zoom(image, factor):
    """The authors' function, for sides that differ."""
    crops = [int(np.ceil(side / factor)) for side in image.shape[:2]]
    tops = [(side - crop) // 2 for side, crop in zip(image.shape, crops, strict=False)]
    part = image[tops[0] : tops[0] + crops[0], tops[1] : tops[1] + crops[1]]
    zoomed = scipy.ndimage.zoom(part, (factor, factor, 1), order=1)
    cuts = [(have - want) // 2 for have, want in zip(zoomed.shape, image.shape, strict=False)]
    return zoomed[cuts[0] : cuts[0] + image.shape[0], cuts[1] : cuts[1] + image.shape[1]]


@pytest.mark.parametrize(("stop", "step"), [(1.06, 0.01), (1.31, 0.03)])
def test_zoom_blur_is_the_published_one(images, stop, step):
    for image, result in zip(images, warps.zoom_blur(images, stop, step).numpy(), strict=True):
        factors = np.arange(1, stop, step)
        total = image + sum(published_zoom(image, factor) for factor in factors)
        np.testing.assert_allclose(result, total / (len(factors) + 1), atol=2e-6)


def test_glass_blur_is_the_published_one(images):
    """The authors' loop on one image, with the same draws."""
    (result,) = warps.glass_blur(images[:1], (0.7, 1, 2), np.random.default_rng(0))
    generator = np.random.default_rng(0)

    def blur(image):
        return scipy.ndimage.gaussian_filter(image, (0.7, 0.7, 0), mode="nearest", truncate=4)

    x = np.uint8(255 * blur(images[0]))
    for _ in range(2):
        for h in range(x.shape[0] - 1, 1, -1):
            for w in range(x.shape[1] - 1, 1, -1):
                dx, dy = generator.integers(-1, 1, (2, 1))[:, 0]
                x[h, w] = x[h + dy, w + dx]
    np.testing.assert_allclose(result, blur(x / 255), atol=1e-6)


def test_elastic_transform_keeps_what_does_not_move(images):
    still = warps.elastic_transform(images, (0, 0, 0), np.random.default_rng(0))
    np.testing.assert_allclose(still, images, atol=1e-6)

    # Three points that go one way take the whole image along.
    class Along:
        def uniform(self, low, high, shape):
            return np.broadcast_to([0, high], shape)

    moved = warps.elastic_transform(images, (0, 0, 2 / images.shape[1]), Along())
    np.testing.assert_allclose(moved[:, :, 2:], images[:, :, :-2], atol=1e-5)


def test_snow_brightens_and_frost_cools():
    images = np.full((16, 32, 32, 3), 0.4, np.float32)
    generator = np.random.default_rng(0)
    strength = SEVERITIES["cifar_c"]["snow"][2]
    snowy = weather.snow(images, strength, generator)
    # What is not under a flake is brightened as published, to .9 x + .1 (1.5 gray + .5).
    np.testing.assert_allclose(snowy.min(), 0.9 * 0.4 + 0.1 * (1.5 * 0.4 + 0.5), atol=1e-6)
    # Flakes fall twice, once turned by half: their mean is what draws of that kind have.
    flakes = np.random.default_rng(1).normal(0.15, 0.3, 100_000)
    flakes = np.where(flakes < 0.55, 0, flakes).clip(0, 1).mean()
    assert 0.3 * flakes < (snowy - snowy.min()).mean() < 3 * flakes
    icy = weather.frost(images, (0.75, 0.45), generator)
    assert icy[..., 2].mean() > icy[..., 0].mean() > 0.3
    assert icy.std((1, 2)).min() > 0.02


@pytest.mark.parametrize("severity", [2, 4], ids=["water", "mud"])
def test_spatter_adds_drops_of_its_colour(severity):
    images = np.full((8, 32, 32, 3), 0.5, np.float32)
    strength = SEVERITIES["cifar_c"]["spatter"][severity - 1]
    spattered = weather.spatter(images, strength, np.random.default_rng(0))
    change = spattered - images
    touched = np.abs(change).max(-1) > 0.02
    assert 0.005 < touched.mean() < 0.6
    if severity == 2:
        assert change.min() >= -1e-6
    else:
        # Mud hides what is under it.
        assert spattered[touched].mean(0).argmax() == 0
        assert change.max() <= 1e-6


def test_backgrounds_leave_the_object_alone():
    images = np.zeros((3, 16, 16, 1), np.float32)
    images[:, 5:11, 5:11] = 0.8
    images[:, 7:9, 7:9] = 0  # A hole in the object is none of the background.
    changed = scenes.background(images, 1.0, np.random.default_rng(0))
    np.testing.assert_array_equal(changed[:, 5:11, 5:11], images[:, 5:11, 5:11])
    assert (changed != images).mean() > 0.7
    np.testing.assert_array_equal(scenes.background(images, 0.0, np.random.default_rng(0)), images)


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_occlusions_hide_a_rectangle_of_one_colour(share):
    images = images_of((20, 24, 3), 50)
    hidden = scenes.occlusion(images, share, np.random.default_rng(0))
    where = (hidden != images).any(-1)
    assert where.mean() == pytest.approx(share, rel=0.1)
    rows, columns = np.nonzero(where[0])
    assert np.ptp(hidden[0][where[0]], axis=0).max() == 0
    assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)


@pytest.mark.parametrize("fraction", [0.95, 0.65, 0.25])
def test_pixelate_is_pillows_to_the_bit(images, fraction):
    height, width, channels = images.shape[1:]
    small = (int(width * fraction), int(height * fraction))
    for image, result in zip(images, digital.pixelate(images, fraction).numpy(), strict=True):
        pixels = np.round(255 * image).astype(np.uint8)
        picture = Image.fromarray(pixels if channels == 3 else pixels[..., 0])
        picture = picture.resize(small, Image.Resampling.BOX)
        picture = picture.resize((width, height), Image.Resampling.BOX)
        np.testing.assert_array_equal(
            np.round(255 * result), np.asarray(picture).reshape(image.shape)
        )


@pytest.mark.parametrize("quality", [80, 25])
def test_jpeg_compression(images, quality):
    for image, result in zip(images, digital.jpeg_compression(images, quality), strict=True):
        pixels = np.round(255 * image).astype(np.uint8)
        file = io.BytesIO()
        picture = Image.fromarray(pixels if image.shape[-1] == 3 else pixels[..., 0])
        picture.save(file, "JPEG", quality=quality)
        expected = np.asarray(Image.open(file)).reshape(image.shape) / 255
        np.testing.assert_allclose(result, expected, atol=3 / 255)


@pytest.mark.parametrize("scale", SEVERITIES)
def test_every_severity_of_every_scale(scale):
    assert SEVERITIES[scale].keys() == CORRUPTIONS.keys()
    images = images_of((12, 10, 3), count=16)
    for name in CORRUPTIONS:
        if name in DRAWN and scale != "cifar_c":
            continue  # Loops over pixels; their constants are in `test_published_strengths`.
        changes = []
        for severity in range(1, 6):
            corrupted = corrupt(images, name, severity, scale).numpy()
            assert corrupted.shape == images.shape
            assert corrupted.dtype == np.float32
            assert 0 <= corrupted.min() <= corrupted.max() <= 1
            changes.append(np.abs(corrupted - images).mean())
        assert min(changes) > 0, name
        # Ice hides more of the image, and points move more finely, but neither by more.
        assert name in ("elastic_transform", "frost") or changes[4] > changes[0], name


def test_published_strengths():
    """A few of the published constants of each scale, and training's own noises."""
    assert SEVERITIES["cifar_c"]["motion_blur"][4] == (9, 2.5)
    assert SEVERITIES["cifar_c"]["jpeg_compression"] == (80, 65, 58, 50, 40)
    assert SEVERITIES["tiny_imagenet_c"]["contrast"] == (0.4, 0.3, 0.2, 0.1, 0.05)
    assert SEVERITIES["imagenet_c"]["defocus_blur"][2] == (6, 0.5)
    assert SEVERITIES["tiny_imagenet_c"]["glass_blur"][3] == (0.7, 2, 1)
    assert SEVERITIES["imagenet_c"]["snow"][4] == (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55)
    assert SEVERITIES["imagenet_c"]["elastic_transform"][4][0] * 224 == pytest.approx(244 * 0.12)
    assert len(PUBLISHED) == 19
    assert set(EXTRA) < set(PUBLISHED)
    for scale, severities in SEVERITIES.items():
        for name, published in NOISE_CORRUPTIONS.items():
            assert severities[published] == noise.SEVERITIES[scale][name]
            assert CORRUPTIONS[published] is noise.NOISES[name]


@pytest.mark.parametrize("name", ["speckle_noise", "motion_blur", "fog", "snow"])
def test_seeds(name):
    images = images_of((16, 16, 3))
    first = corrupt(images, name, 3, seed=1).numpy()
    np.testing.assert_array_equal(first, corrupt(images, name, 3, seed=1))
    assert np.abs(first - corrupt(images, name, 3, seed=2)).max() > 0.01
    in_graph = tf.function(lambda batch: corrupt(batch, name, 3, seed=1))(tf.constant(images))
    np.testing.assert_allclose(first, in_graph, atol=1e-6)


def test_bad_input():
    images = images_of((8, 8, 3))
    cases = [
        ((images, "sand", 1), "name must be one of"),
        ((images, "frog", 1), "Did you mean 'fog'"),
        ((images, "fog", 0), "severity must be an integer >= 1 and <= 5; received 0"),
        ((images, "fog", 1, "cifar"), "Did you mean 'cifar_c'"),
        (((255 * images).astype(np.uint8), "fog", 1), "images must be float32"),
        ((images[..., :2], "fog", 1), "1 or 3 channels"),
    ]
    for arguments, message in cases:
        with pytest.raises(InputError, match=message):
            corrupt(*arguments)
