"""`load`: images from the embedded set, a folder or TensorFlow Datasets, in one shape."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from robustcls._settings import NonNegativeInt, PositiveFloat, Range, checked
from robustcls._validation import InputError, nearest
from robustcls.data.embedded_sets import FASHION_MNIST_MINI, load_embedded
from robustcls.data.folders import image_sizes, load_folder
from robustcls.data.one_class.layouts import folder_of
from robustcls.data.resizing import Size
from robustcls.data.splits import Reading, Splits

#: What ImageNet's networks are mostly trained on, and enough for a small set.
LARGEST_SIDE = 224


@checked
def load(
    name: str | os.PathLike[str],
    *,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    validation_fraction: Annotated[float, Range(minimum=0, maximum=0.9)] = 0.1,
    seed: NonNegativeInt = 0,
    skip_bad_images: bool = False,
    one_class: bool = False,
    data_dir: str | os.PathLike[str] | None = None,
    memory: PositiveFloat | None = None,
) -> Splits:
    """Loads a labelled image set.

    `name` is one of

    - `"fashion_mnist_mini"`, the set inside this package: 10,000 training and 2,000 test images,
      28×28 gray, ten classes;
    - a set of TensorFlow Datasets: `"cifar10"`, `"mnist:3.0.1"`, `"cifar10_corrupted/fog_1"`, or
      `"tiny_imagenet"`. One that is not prepared yet is prepared first (see `prepare`). Where it
      has no labelled test split, the validation split is the test split;
    - an image folder, `root/split/class/*` with the splits `train`, and if there are any
      `validation` (or `val`) and `test`, or `root/class/*`. A name that TensorFlow Datasets knows
      means that set; write `"./cifar10"` for a folder of that name. Classes are the folder
      names, sorted. A class folder is read at any depth; hidden files are left out;
    - `SET:FOLDER`, SET being mvtec, loco, ad2, visa or ucsd: a category of that set of defects,
      with `one_class`.

    What has no test split gives 20 % of each training class to it; what has no validation split
    gives `validation_fraction` of each training class, both chosen by `seed` and the images'
    ids. `Splits.source` says what was held out.

    Args:
        name: set or folder, as above.
        image_size: side, or (height, width), in pixels to resize to: bilinear with antialiasing,
            not keeping the aspect ratio. None keeps the size, which must then be the same for all
            images (default None).
        channels: 1 makes colour images gray, 3 repeats gray ones. None keeps what the set has; a
            folder with both becomes RGB (int or None, default None).
        validation_fraction: share of each training class (float in [0, 0.9], default 0.1).
        seed: chooses what is held out (int >= 0, default 0).
        skip_bad_images: leaves unreadable files of a folder out and lists them in `Splits.skipped`,
            instead of failing at the first (bool, default False).
        one_class: takes folders of one normal class too, for detectors: normal images alone, and
            the layouts of MVTec AD, MVTec LOCO, MVTec AD 2, VisA and UCSD Ped1 and Ped2; the normal
            class is number 0 (bool, default False).
        data_dir: where TensorFlow Datasets keeps prepared sets; by default `$TFDS_DATA_DIR`, else
            `~/tensorflow_datasets` (default None).
        memory: GiB that the decoded images of a split may take. A larger split of a folder or of a
            TFDS set (TFRecord files on this machine) stays in its files, which are decoded when a
            batch asks for them. When None, larger than 4 GiB is a memory map on
            disk, decoded once (float > 0 or None, default None).

    Returns:
        `Splits` with uint8 images.

    Raises:
        InputError: an unknown name, an unusable folder or file, or a set that cannot be prepared.

    Example:
        >>> splits = load("fashion_mnist_mini")
        >>> len(splits.train), len(splits.validation), len(splits.test), splits.image_shape
        (9000, 1000, 2000, (28, 28, 1))
    """
    reading = Reading(
        size=check_size(image_size),
        channels=check_channels(channels),
        validation_fraction=validation_fraction,
        seed=seed,
        skip_bad_images=skip_bad_images,
        one_class=one_class,
        data_dir=data_dir,
        memory=memory,
    )
    folder = folder_of(name) if isinstance(name, str) else None
    if folder is not None:
        if not one_class:
            raise InputError(
                f"name must be a set of several classes; {name} has one normal class, which is for "
                "`anomaly train`, or for one_class=True."
            )
        return load_folder(folder, reading)
    read = _reader(name)
    return read(name, reading)


def sensible_side(
    name: str | os.PathLike[str], *, largest: int = LARGEST_SIDE, one_class: bool = False
) -> tuple[int | None, str]:
    """Chooses the side that a folder's images are to be resized to, where nobody says.

    Images of one size that is not too large keep it. Others get the median of their shorter sides
    in steps of 32 pixels, `largest` at most. Sets that are no folders keep theirs.

    Args:
        name: as for `load`.
        largest: no side of an image may be longer (int, default 224).
        one_class: as for `load` (bool, default False).

    Returns:
        The side, or None for the size that they have, and why in one line.

    Raises:
        InputError: an unknown name or an unusable folder.
    """
    folder = folder_of(name) if isinstance(name, str) else None
    if folder is None and _reader(name) is not load_folder:
        return None, ""
    sizes = image_sizes(folder or Path(name).expanduser(), one_class)
    different = sorted(set(sizes))
    if not sizes or (len(different) == 1 and max(different[0]) <= largest):
        return None, ""
    side = int(np.median([min(size) for size in sizes])) // 32 * 32
    side = max(32, min(side, largest))
    first, last = (f"{height}×{width}" for height, width in (different[0], different[-1]))
    whose = first if len(different) == 1 else f"{len(different)} sizes from {first} to {last}"
    return side, f"Images of {whose} pixels are resized to {side}×{side}."


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


def _reader(name: Any) -> Callable[[Any, Reading], Splits]:
    """Returns what reads the set or the folder of that name."""
    if name == FASHION_MNIST_MINI:
        return load_embedded
    if isinstance(name, str) and name and _is_tfds_name(name):
        from robustcls.data.tfds.sets import load_tfds

        return load_tfds
    if not isinstance(name, str | os.PathLike) or not os.fspath(name):
        raise InputError(f"name must be a set's name or a folder; received {name!r}.")
    missing = not Path(name).expanduser().exists()
    if isinstance(name, str) and missing and not _looks_like_path(name):
        raise InputError(_unknown(name))
    return load_folder


def _is_tfds_name(name: str) -> bool:
    if _looks_like_path(name) and name[0] in ".~" + os.sep:
        return False
    from robustcls.data.tfds.lookup import is_known

    return is_known(name)


def _looks_like_path(name: str) -> bool:
    return os.sep in name or name[:1] in (".", "~")


def _unknown(name: str) -> str:
    from robustcls.data.catalog import image_set_names

    known = [FASHION_MNIST_MINI, *image_set_names()]
    return (
        f"name must be an image folder, {FASHION_MNIST_MINI}, tiny_imagenet or an "
        f"image set of TFDS; received {name!r}." + nearest(name, known)
    )
