"""Corruptions that move pixels: zoom blur, glass blur and elastic transforms.

Images are float32 [N, H, W, C] in [0, 1] on the way in and out.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import scipy.ndimage
import tensorflow as tf

from robustcls.data.noise import as_image_batch
from robustcls.evaluation.corruptions.blurs import separable


def zoom_blur(images: Any, stop: float, step: float) -> tf.Tensor:
    """Averages the image with zooms of its middle, by factors from 1 to below `stop`.

    Args:
        images: float32 [N, H, W, C] in [0, 1].
        stop: where the factors end, > 1.
        step: from one factor to the next, > 0.
    """
    images = as_image_batch(images)
    height, width = images.shape[1:3]
    factors = np.arange(1, stop, step)
    pairs = [(_zoom_matrix(height, factor), _zoom_matrix(width, factor)) for factor in factors]
    total = images + separable(images, pairs)
    return tf.clip_by_value(total / (len(factors) + 1), 0.0, 1.0)


def clipped_zoom(layers: np.ndarray, factor: float) -> np.ndarray:
    """Returns the middle of each layer, zoomed to the layer's size.

    Args:
        layers: [N, H, W].
        factor: of the zoom, >= 1.
    """
    rows, columns = (_zoom_matrix(side, factor) for side in layers.shape[1:3])
    return rows @ layers @ columns.T


@functools.lru_cache(maxsize=256)
def _zoom_matrix(side: int, factor: float) -> np.ndarray:
    """Returns [side, side]: the middle of a line, zoomed with linear interpolation and cut."""
    crop = int(np.ceil(side / factor))
    before = (side - crop) // 2
    zoomed = scipy.ndimage.zoom(np.eye(crop), (factor, 1), order=1)
    cut = (len(zoomed) - side) // 2
    matrix = np.zeros((side, side))
    matrix[:, before : before + crop] = zoomed[cut : cut + side]
    return matrix


def glass_blur(
    images: np.ndarray, strength: tuple[float, int, int], generator: np.random.Generator
) -> np.ndarray:
    """Blurs, lets every pixel take the colour of one nearby, and blurs again.

    The published code means to swap two pixels, but its assignment copies the second to the first;
    so does this.

    Args:
        images: float32 [N, H, W, C] in [0, 1].
        strength: standard deviation of the blurs in pixels, how far a pixel looks, and how often.
        generator: of the draws.
    """
    stddev, reach, rounds = strength
    pixels = np.trunc(255 * _blurred(images, stddev))
    count, height, width = images.shape[:3]
    everyone = np.arange(count)
    for _ in range(rounds):
        for row in range(height - reach, reach, -1):
            for column in range(width - reach, reach, -1):
                right, down = generator.integers(-reach, reach, (2, count))
                pixels[:, row, column] = pixels[everyone, row + down, column + right]
    return np.clip(_blurred(pixels / 255, stddev), 0, 1)


def elastic_transform(
    images: np.ndarray, strength: tuple[float, float, float], generator: np.random.Generator
) -> np.ndarray:
    """Moves three points of each image apart, and then every pixel by a smooth random field.

    Args:
        images: float32 [N, H, W, C] in [0, 1].
        strength: height of the field, its smoothness, and how far the three points move at most,
            all as shares of the image's height.
        generator: of the draws.
    """
    height, width = images.shape[1:3]
    scale, stddev, shift = (height * share for share in strength)
    grid = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij")).astype(float)
    moved = np.empty_like(images)
    for at, image in enumerate(images):
        field = np.zeros_like(grid)
        affine = _random_affine((height, width), shift, generator)
        if scale > 0:
            noise = generator.uniform(-1, 1, grid.shape)
            field = scale * scipy.ndimage.gaussian_filter(noise, (0, stddev, stddev), truncate=3)
        for channel in range(image.shape[-1]):
            turned = scipy.ndimage.map_coordinates(
                image[..., channel], _transformed(affine, grid), order=1, mode="mirror"
            )
            moved[at, ..., channel] = scipy.ndimage.map_coordinates(
                turned, grid + field, order=1, mode="reflect"
            )
    return np.clip(moved, 0, 1)


def _random_affine(
    sides: tuple[int, int], shift: float, generator: np.random.Generator
) -> np.ndarray:
    """The map from places in the new image to those in the old, [2, 3]."""
    middle, reach = np.array(sides) // 2, min(sides) // 3
    away = np.array([[reach, reach], [reach, -reach], [-reach, -reach]])
    before = (middle + away).astype(float)
    after = before + generator.uniform(-shift, shift, before.shape)
    return np.linalg.solve(np.column_stack([after, np.ones(3)]), before).T


def _transformed(affine: np.ndarray, grid: np.ndarray) -> np.ndarray:
    return np.tensordot(affine[:, :2], grid, 1) + affine[:, 2, None, None]


def _blurred(images: np.ndarray, stddev: float) -> np.ndarray:
    blurred: np.ndarray = scipy.ndimage.gaussian_filter(
        images, (0, stddev, stddev, 0), mode="nearest", truncate=4
    )
    return blurred
