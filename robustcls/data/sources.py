"""`load`: images from the embedded set, a folder or TensorFlow Datasets, in one shape."""

from __future__ import annotations

import os

from robustcls._validation import check_choice, check_number
from robustcls.data import embedded_sets
from robustcls.data.carving import carve
from robustcls.data.resizing import check_channels, check_size, fit_split
from robustcls.data.splits import Splits


def load(
    name: str | os.PathLike[str],
    *,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    validation_fraction: float = 0.1,
    seed: int = 0,
) -> Splits:
    """Loads a labelled image set."""
    size, channels = check_size(image_size), check_channels(channels)
    check_number("validation_fraction", validation_fraction, minimum=0, maximum=0.9)
    check_number("seed", seed, minimum=0, integer=True)
    check_choice("name", str(name), [embedded_sets.FASHION_MNIST_MINI])
    train, test = (
        fit_split(split, size, channels) for split in embedded_sets.read_fashion_mnist_mini()
    )
    train, validation = carve(train, validation_fraction, seed, "validation")
    return Splits(
        train, validation, test, embedded_sets.CLASS_NAMES, "fashion_mnist_mini (embedded)"
    )
