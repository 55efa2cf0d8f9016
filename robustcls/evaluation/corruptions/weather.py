"""Snow, frost and spatter.

Images are float32 [N, H, W, C] in [0, 1] on the way in and out. Layers of snow, ice and drops are
[N, H, W].
"""

from __future__ import annotations

import numpy as np
import scipy.ndimage

from robustcls.evaluation.corruptions import blurs, fog, warps

GRAY = np.array([0.299, 0.587, 0.114], np.float32)
# Of ice, water and mud, in the channels' order red, green, blue.
ICE = np.array([0.72, 0.86, 1.0], np.float32)
WATER = np.array([175, 238, 238], np.float32) / 255
MUD = np.array([63, 42, 20], np.float32) / 255
FARTHEST = 20


def snow(
    images: np.ndarray, strength: tuple[float, ...], generator: np.random.Generator
) -> np.ndarray:
    """Brightens the image and lets flakes fall that are blurred along their way.

    Args:
        images: float32 [N, H, W, C] in [0, 1].
        strength: mean and standard deviation of the flakes, how much they are zoomed, the least
            that stays, radius and standard deviation of their motion blur in pixels, and the share
            of the image that is not brightened.
        generator: of the draws.
    """
    mean, stddev, zoom, least, radius, blur, share = strength
    flakes = generator.normal(mean, stddev, images.shape[:3])
    flakes = warps.clipped_zoom(flakes, zoom)
    flakes = np.trunc(255 * np.clip(np.where(flakes < least, 0, flakes), 0, 1)) / 255
    angles = generator.uniform(-135, -45, len(images))
    layer = blurs.motion_blur(flakes[..., None].astype(np.float32), radius, blur, angles).numpy()
    gray = images @ GRAY[:, None] if images.shape[-1] == 3 else images
    bright = share * images + (1 - share) * np.maximum(images, 1.5 * gray + 0.5)
    return np.clip(bright + layer + layer[:, ::-1, ::-1], 0, 1)


def frost(
    images: np.ndarray, strength: tuple[float, float], generator: np.random.Generator
) -> np.ndarray:
    """Lays a sheet of ice over the image.

    The published code takes photographs of frost; here its crystals are drawn: ridges of two
    fractals, the finer within the coarser.

    Args:
        images: float32 [N, H, W, C] in [0, 1].
        strength: the shares of the image and of the ice in the sum.
        generator: of the draws.
    """
    own, share = strength
    ice = _crystals(images.shape[:3], generator)[..., None]
    tint = ICE if images.shape[-1] == 3 else ICE @ GRAY[:, None]
    return np.clip(own * images + share * ice * tint, 0, 1)


def _crystals(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    count, height, width = shape
    side = 1 << (max(height, width) - 1).bit_length()
    ridges = []
    for decay in (2.0, 1.5):
        draws = generator.uniform(-1, 1, (count, side, side)).astype(np.float32)
        clouds = fog.plasma_fractal(draws, decay).numpy()[:, :height, :width]
        ridges.append(1 - np.abs(2 * clouds - 1))
    coarse, fine = ridges
    return np.clip(0.15 + 0.85 * coarse**2 * (0.4 + 0.6 * fine**3) * 1.6, 0, 1)


def spatter(
    images: np.ndarray, strength: tuple[float, ...], generator: np.random.Generator
) -> np.ndarray:
    """Splashes drops of water, lit at their rims, or mud onto the image.

    Args:
        images: float32 [N, H, W, C] in [0, 1].
        strength: mean and standard deviation of the liquid, standard deviation of its blur in
            pixels, the least that stays, the drops' weight (of mud the standard deviation of their
            blur), and 0 for water or 1 for mud.
        generator: of the draws.
    """
    mean, stddev, blur, least, weight, muddy = strength
    liquid = generator.normal(mean, stddev, images.shape[:3])
    liquid = scipy.ndimage.gaussian_filter(liquid, (0, blur, blur), mode="nearest", truncate=4)
    liquid = np.where(liquid < least, 0, liquid)
    colour = MUD if muddy else WATER
    if images.shape[-1] == 1:
        colour = colour @ GRAY[:, None]
    if muddy:
        mud = (liquid > least).astype(np.float32)
        mud = scipy.ndimage.gaussian_filter(mud, (0, weight, weight), mode="nearest", truncate=4)
        mud = np.where(mud < 0.8, 0, mud)[..., None]
        return np.clip(images * (1 - mud) + colour * mud, 0, 1)
    drops = weight * np.stack([_lit(layer) for layer in np.trunc(255 * liquid)])[..., None]
    return np.clip(images + colour * drops, 0, 1)


def _lit(liquid: np.ndarray) -> np.ndarray:
    """Drops that shine by how far their points are from the rims, from 0 to 1, [H, W]."""
    liquid = np.clip(liquid, 0, 255)
    rims = _rims(liquid)
    distance = np.full(liquid.shape, float(FARTHEST))
    if rims.any():
        distance = np.minimum(scipy.ndimage.distance_transform_edt(~rims), FARTHEST)
    shine = _equalized(np.rint(_mean_of_nine(distance)))
    slope = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], float)
    shine = np.clip(scipy.ndimage.correlate(shine, slope, mode="mirror"), 0, 255)
    lit = liquid * _mean_of_nine(shine)
    most = lit.max()
    return lit / most if most > 0 else lit


def _rims(liquid: np.ndarray, low: float = 50, high: float = 150) -> np.ndarray:
    """Edges by Canny's method: ridges of the gradient that hang together with a strong one."""
    down = scipy.ndimage.sobel(liquid, 0, mode="nearest")
    right = scipy.ndimage.sobel(liquid, 1, mode="nearest")
    size = np.abs(down) + np.abs(right)
    padded = np.pad(size, 1)
    # The neighbours along the gradient, to the nearest eighth of a turn.
    turn = np.rint(np.arctan2(down, right) / (np.pi / 4)).astype(int)
    steps = np.array([(0, 1), (1, 1), (1, 0), (1, -1)])[turn % 4]
    rows, columns = np.indices(liquid.shape) + 1
    ahead = padded[rows + steps[..., 0], columns + steps[..., 1]]
    behind = padded[rows - steps[..., 0], columns - steps[..., 1]]
    weak = (size > low) & (size >= ahead) & (size > behind)
    parts, _ = scipy.ndimage.label(weak, np.ones((3, 3)))
    return weak & np.isin(parts, parts[weak & (size > high)])


def _equalized(values: np.ndarray) -> np.ndarray:
    """Spreads whole values from 0 to 255 so that each range holds as many pixels."""
    counts = np.bincount(values.astype(int).ravel(), minlength=256)
    first = counts[np.flatnonzero(counts)[0]]
    rest = values.size - first
    if not rest:
        return values
    levels = np.rint(255 * (np.cumsum(counts) - first) / rest).clip(0, 255)
    return levels[values.astype(int)]


def _mean_of_nine(values: np.ndarray) -> np.ndarray:
    mean: np.ndarray = scipy.ndimage.uniform_filter(values, 3, mode="mirror")
    return mean
