"""One size and one number of channels for images that are already in memory."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from PIL import Image

from robustcls.data.storage import allocate

#: (height, width), or None to keep what the images have.
Size = tuple[int, int] | None


def fit(image: np.ndarray, size: Size, channels: int | None) -> np.ndarray:
    """Returns uint8 [H, W, C] with the asked size and channels.

    Resizing is bilinear with antialiasing and does not keep the aspect ratio. Gray becomes RGB by
    repetition, RGB becomes gray by ITU-R 601 luma.
    """
    if channels not in (None, image.shape[-1]) and channels == 1:
        image = np.asarray(Image.fromarray(image).convert("L"))[..., None]
    if size not in (None, image.shape[:2]):
        picture = Image.fromarray(image if image.shape[-1] == 3 else image[..., 0])
        image = np.asarray(resized(picture, size)).reshape(*size, image.shape[-1])
    if channels not in (None, image.shape[-1]):
        image = np.repeat(image, 3, axis=-1)
    return image


def resized(picture: Image.Image, size: Size) -> Image.Image:
    """Returns a picture of the asked size, the same one where it has it.

    Args:
        picture: of mode L or RGB.
        size: (height, width), or None.
    """
    if size is None or (size[1], size[0]) == picture.size:
        return picture
    return picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)


def changes(before: Iterable[tuple[int, ...]], size: Size, channels: int | None) -> tuple[str, ...]:
    """Says in words what `fit` does to images; nothing where it leaves them alone.

    Args:
        before: (height, width, channels) of the images; repetitions do not matter.
        size: (height, width) asked for, or None.
        channels: 1 or 3 asked for, or None.
    """
    shapes = sorted(set(before))
    others = sorted({shape[:2] for shape in shapes if size not in (None, shape[:2])})
    words = []
    if others and size is not None:
        first, last = (f"{height}×{width}" for height, width in (others[0], others[-1]))
        sizes = first if len(others) == 1 else f"{len(others)} sizes from {first} to {last}"
        words.append(f"resized from {sizes} to {size[0]}×{size[1]} pixels")
    if channels is not None and any(shape[2] != channels for shape in shapes):
        words.append("made gray" if channels == 1 else "made colour by repeating their gray")
    return tuple(words)


def fit_all(images: np.ndarray, size: Size, channels: int | None) -> np.ndarray:
    """Returns `images`, uint8 [N, H, W, C], with each passed through `fit`."""
    height, width, depth = images.shape[1:]
    if size in (None, (height, width)) and channels in (None, depth):
        return images
    fitted = allocate((len(images), *(size or (height, width)), channels or depth))
    for place, image in enumerate(images):
        fitted[place] = fit(image, size, channels)
    return fitted
