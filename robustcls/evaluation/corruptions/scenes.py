"""What is around an object and before it: other backgrounds, and things that hide a part.

Images are float32 [N, H, W, C] in [0, 1] on the way in and out.
"""

from __future__ import annotations

import numpy as np
import scipy.ndimage

from robustcls.evaluation.corruptions import fog

# How far from the border's colour a background may be.
ALIKE = 0.15


def background(images: np.ndarray, weight: float, generator: np.random.Generator) -> np.ndarray:
    """Blends a cloudy pattern into the background, between two colours of its own for each image.

    The background is what hangs together with the image's border and has its usual colour, to 0.15
    in every channel. Where the border has many colours, little of the image is changed.

    Args:
        images: float32 [N, H, W, C] in [0, 1].
        weight: of the pattern, in [0, 1].
        generator: of the draws.
    """
    count, height, width, channels = images.shape
    side = 1 << (max(height, width) - 1).bit_length()
    draws = generator.uniform(-1, 1, (count, side, side)).astype(np.float32)
    clouds = fog.plasma_fractal(draws, 2.0).numpy()[:, :height, :width, None]
    first, second = generator.uniform(size=(2, count, 1, 1, channels)).astype(np.float32)
    pattern = first + (second - first) * clouds
    share = weight * np.stack([_behind(image) for image in images])[..., None]
    changed: np.ndarray = images + share * (pattern - images)
    return changed


def _behind(image: np.ndarray) -> np.ndarray:
    """Where the background is, bool [H, W]."""
    border = np.zeros(image.shape[:2], bool)
    border[[0, -1]] = border[:, [0, -1]] = True
    alike = (np.abs(image - np.median(image[border], axis=0)) <= ALIKE).all(-1)
    parts, _ = scipy.ndimage.label(alike)
    return alike & np.isin(parts, parts[border & alike])


def occlusion(images: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """Hides a rectangle of each image, of any place and of sides up to two to one, by one colour.

    Args:
        images: float32 [N, H, W, C] in [0, 1].
        share: of the image's area, in (0, 1).
        generator: of the draws.
    """
    hidden = images.copy()
    height, width, channels = images.shape[1:]
    for image in hidden:
        ratio = 2.0 ** generator.uniform(-0.5, 0.5)
        tall = min(height, max(1, round(height * np.sqrt(share) * ratio)))
        wide = min(width, max(1, round(width * np.sqrt(share) / ratio)))
        top, left = (generator.integers(0, room + 1) for room in (height - tall, width - wide))
        image[top : top + tall, left : left + wide] = generator.uniform(size=channels)
    return hidden
