"""One size and one number of channels for images that are already in memory."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from PIL import Image

from robustcls._validation import InputError
from robustcls.data.storage import allocate

#: (height, width), or None to keep what the images have.
Size = tuple[int, int] | None


def check_size(image_size: int | tuple[int, int] | None) -> Size:
    """Returns `image_size` as (height, width); one number means a square.

    Raises:
        InputError: anything but a positive integer, a pair of them, or None.
    """
    if image_size is None:
        return None
    pair = (image_size, image_size) if isinstance(image_size, int | np.integer) else image_size
    if (
        not isinstance(pair, tuple | list)
        or len(pair) != 2
        or not all(
            isinstance(side, int | np.integer) and not isinstance(side, bool) for side in pair
        )
        or min(pair) < 1
        or max(pair) > 8192
    ):
        raise InputError(
            "image_size must be a side or (height, width) in pixels, each from 1 to 8192; "
            f"received {image_size!r}."
        )
    return int(pair[0]), int(pair[1])


def check_channels(channels: int | None) -> int | None:
    """Returns `channels` when it is 1, 3 or None, else raises `InputError`."""
    if channels is not None and (isinstance(channels, bool) or channels not in (1, 3)):
        raise InputError(f"channels must be 1, 3 or None; received {channels!r}.")
    return channels


def fit(image: np.ndarray, size: Size, channels: int | None) -> np.ndarray:
    """Returns uint8 [H, W, C] with the asked size and channels.

    Resizing is bilinear with antialiasing and does not keep the aspect ratio. Gray becomes RGB by
    repetition, RGB becomes gray by ITU-R 601 luma.
    """
    if channels not in (None, image.shape[-1]) and channels == 1:
        image = np.asarray(Image.fromarray(image).convert("L"))[..., None]
    if size not in (None, image.shape[:2]):
        picture = Image.fromarray(image if image.shape[-1] == 3 else image[..., 0])
        resized = picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        image = np.asarray(resized).reshape(*size, image.shape[-1])
    if channels not in (None, image.shape[-1]):
        image = np.repeat(image, 3, axis=-1)
    return image


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
