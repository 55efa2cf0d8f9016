"""Sets of unfamiliar images by name: made ones, and whatever `load` takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robustcls._validation import InputError
from robustcls.data.sources import load
from robustcls.data.splits import Split
from robustcls.evaluation.prediction import subset

_MADE_COUNT = 1000


def _noise(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return generator.integers(0, 256, shape, dtype=np.uint8)


def _flat(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    colours = generator.integers(0, 256, (shape[0], 1, 1, shape[-1]), dtype=np.uint8)
    return np.broadcast_to(colours, shape).copy()


#: Images that need no data: every pixel by itself, every image of one colour.
MADE: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "noise": _noise,
    "flat": _flat,
}


@dataclass(frozen=True, eq=False)
class UnfamiliarSets:
    """What `load_sets` found.

    Attributes:
        splits: the images by the name of the set.
        left_out: sentences that name the unreadable files that were left out.
    """

    splits: dict[str, Split]
    left_out: tuple[str, ...]


def load_sets(
    names: Sequence[str],
    image_shape: tuple[int, int, int],
    *,
    limit: int | None,
    seed: int,
    skip_bad_images: bool = False,
) -> UnfamiliarSets:
    """Returns sets of images of one shape, by name.

    Args:
        names: `noise`, `flat`, or what `robustcls.load` takes, whose test images are meant.
        image_shape: (height, width, channels) to resize to.
        limit: images of each at most, drawn by `seed`; None takes all.
        seed: of the draws.
        skip_bad_images: leave unreadable files out and name them (bool, default False).

    Raises:
        InputError: there is no such set, or two have the same name.
    """
    found: dict[str, Split] = {}
    left_out: list[str] = []
    height, width, channels = image_shape
    for name in names:
        title = name if name in MADE else Path(name).name or str(name)
        if title in found:
            raise InputError(f"sets must have different names; received {title!r} twice.")
        if name in MADE:
            count = _MADE_COUNT if limit is None else min(limit, _MADE_COUNT)
            images = MADE[name](np.random.default_rng(seed), (count, *image_shape))
            ids = np.array([f"{name}/{place:04d}" for place in range(count)])
            found[title] = Split(images, np.zeros(count, np.int64), ids)
            continue
        read = load(
            name,
            image_size=(height, width),
            channels=channels,
            skip_bad_images=skip_bad_images,
        )
        left_out += read.left_out
        found[title] = read.test.take(subset(len(read.test), limit, seed))
    return UnfamiliarSets(found, tuple(left_out))
