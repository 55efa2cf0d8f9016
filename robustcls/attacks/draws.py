"""Random numbers that belong to an image, whatever batch it is in.

A draw is a function of a key alone, and the key of an image is a function of its pixels. So an
attack does the same to an image alone, in any batch, and in any part of a data set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
# So many numbers at a time stay near the processor.
_IN_CACHE = 1 << 15


def image_keys(images: np.ndarray) -> np.ndarray:
    """Returns a key for each image, uint64 [N], made of its pixels.

    Args:
        images: float32 [N, H, W, C].
    """
    digests = [hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in images]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def derive(keys: np.ndarray, *parts: int | np.ndarray) -> np.ndarray:
    """Returns new keys, uint64 [N], one for each combination of a key and the parts.

    Args:
        keys: uint64 [N].
        *parts: non-negative integers, one for all keys or int [N].
    """
    for part in parts:
        keys = _mix(keys + _GOLDEN) ^ np.asarray(part, np.uint64)
    return _mix(keys)


def uniform(keys: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Returns float64 [N, *shape], independent and uniform in [0, 1).

    The numbers are the first outputs of SplitMix64 (Steele et al., "Fast splittable pseudorandom
    number generators", 2014) seeded with each key.

    Args:
        keys: uint64 [N].
        shape: of one image's numbers.
    """
    count = int(np.prod(shape, dtype=np.int64))
    found = np.empty((len(keys), count))
    some = max(1, _IN_CACHE // max(1, len(keys)))
    for first in range(0, count, some):
        last = min(first + some, count)
        steps = np.arange(first + 1, last + 1, dtype=np.uint64) * _GOLDEN
        found[:, first:last] = _mix(keys[:, None] + steps) >> np.uint64(11)
    found *= 2.0**-53
    return found.reshape(-1, *shape)


def normal(keys: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Returns float64 [N, *shape], independent and standard normal; arguments as `uniform`."""
    radius, angle = np.moveaxis(uniform(keys, (2, *shape)), 1, 0)
    # 1 - radius lies in (0, 1], so its logarithm is finite. In place: of large images it counts.
    np.log1p(np.negative(radius, out=radius), out=radius)
    radius *= -2
    angle *= 2 * np.pi
    return np.sqrt(radius, out=radius) * np.cos(angle, out=angle)


def signs(keys: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Returns float32 [N, *shape], independently -1 or 1; arguments as `uniform`."""
    return np.where(uniform(keys, shape) < 0.5, -1, 1).astype(np.float32)


def integers(keys: np.ndarray, high: np.ndarray | int) -> np.ndarray:
    """Returns int64 [N], uniform in [0, high).

    Args:
        keys: uint64 [N].
        high: at least 1, one for all keys or int [N].
    """
    return np.floor(uniform(keys, ()) * high).astype(np.int64)


def _mix(bits: np.ndarray) -> np.ndarray:
    bits = (bits ^ (bits >> np.uint64(30))) * _FIRST
    bits = (bits ^ (bits >> np.uint64(27))) * _SECOND
    return bits ^ (bits >> np.uint64(31))
