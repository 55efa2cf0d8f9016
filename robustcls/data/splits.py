"""A labelled image set held in memory: `Split` is one part of it, `Splits` the whole."""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from robustcls._notebook import Brief, Briefly, few
from robustcls._validation import InputError, check_labels
from robustcls.data.decoding import NAMED

# Bytes of images that are hashed at once.
_HASHED = 16 * 2**20


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How `load` reads a set, whatever its kind; the attributes are arguments of `load`.

    Attributes:
        size: (height, width) to resize to, or None.
        channels: 1, 3 or None.
        validation_fraction: share of each training class, where no validation split is stored.
        seed: chooses what is held out.
        skip_bad_images: leaves unreadable files out.
        one_class: takes folders of one normal class too.
        data_dir: where TensorFlow Datasets keeps prepared sets, or None.
        memory: GiB that the decoded images of a split may take, or None.
    """

    size: tuple[int, int] | None
    channels: int | None
    validation_fraction: float
    seed: int
    skip_bad_images: bool
    one_class: bool
    data_dir: str | os.PathLike[str] | None
    memory: float | None


class FloatImages:
    """uint8 images that are float32 in [0, 1] where they are read, a part at a time.

    Rows and slices of it are arrays, and so is `[:]`, which takes four times the memory of the
    pixels.

    Args:
        pixels: uint8 [N, H, W, C].
    """

    dtype = np.dtype(np.float32)

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels

    @property
    def shape(self) -> tuple[int, ...]:
        """[N, H, W, C]."""
        return self.pixels.shape

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, key: Any) -> np.ndarray:
        return np.asarray(self.pixels[key], np.float32) / np.float32(255)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or np.float32, copy=False)


@dataclass(frozen=True, eq=False, repr=False)
class Split(Briefly):
    """Images of one split with their labels and names.

    Attributes:
        images: uint8 [N, H, W, C], C is 1 or 3. Any array that takes an index array works, so a
            set larger than memory can be a `numpy.memmap`, or decode its files when asked
            (`robustcls.data.files.StreamedImages`).
        labels: int64 [N], class ids.
        ids: str [N], stable names: a file's path under its folder, or `split/index`.
    """

    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise InputError(
                "images must be uint8 [N, H, W, C]; "
                f"received {self.images.dtype} of shape {self.images.shape}."
            )
        object.__setattr__(self, "labels", check_labels(self.labels, len(self.images)))
        if len(self.ids) != len(self.images):
            raise InputError(f"ids must be {len(self.images)} names; received {len(self.ids)}.")

    def __len__(self) -> int:
        return len(self.labels)

    def brief(self) -> Brief:
        count = len(np.unique(self.labels))
        classes = f"{count} {'class' if count == 1 else 'classes'}"
        return Brief(f"{len(self):,} images of {_size(self.images)}, {classes}")

    def take(self, indices: slice | np.ndarray) -> Split:
        """Returns the images at `indices` as a split of their own.

        Args:
            indices: which images: a slice, or int or bool [K].
        """
        return Split(self.images[indices], self.labels[indices], self.ids[indices])

    def float_images(self) -> np.ndarray:
        """Returns all images as float32 [N, H, W, C] in [0, 1]."""
        return np.asarray(self.images, np.float32) / np.float32(255)


@dataclass(frozen=True, eq=False, repr=False)
class Splits(Briefly):
    """What `robustcls.load` returns.

    Attributes:
        train: what to learn from.
        validation: what to choose settings by; its images are never in train or test.
        test: what to measure on.
        class_names: one name a class id.
        source: where the images came from, in words a report can print.
        skipped: names of unreadable files left out on request (default ()).
        changes: what `image_size` and `channels` did to the images, in words, for example "made
            gray" (default ()).
    """

    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    source: str
    skipped: tuple[str, ...] = field(default=())
    changes: tuple[str, ...] = field(default=())

    def brief(self) -> Brief:
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        rows = [[f"{name} images", f"{len(part):,}"] for name, part in parts.items()]
        rows += [["size", _size(self.train.images)]]
        rows += [[f"{self.num_classes} classes", few(self.class_names)]]
        if self.skipped:
            rows.append(["left out, unreadable", f"{len(self.skipped)}: {few(self.skipped, 3)}"])
        counts = " + ".join(f"{len(part):,}" for part in parts.values())
        line = f"{self.source}; {counts} images of {_size(self.train.images)}"
        return Brief(f"{line}, {self.num_classes} classes", ("part", ""), rows)

    @property
    def left_out(self) -> tuple[str, ...]:
        """A sentence that names the files left out; empty where there are none."""
        names = few(self.skipped, NAMED)
        return (f"Left out, as unreadable: {names}.",) if self.skipped else ()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of every image."""
        height, width, channels = self.train.images.shape[1:]
        return int(height), int(width), int(channels)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @cached_property
    def fingerprint(self) -> str:
        """Hex SHA-256 over the pixels, labels and class names, the same on every machine."""
        digest = hashlib.sha256("\0".join(self.class_names).encode())
        for split in (self.train, self.validation, self.test):
            digest.update(np.asarray(split.images.shape, "<i8").tobytes())
            digest.update(np.ascontiguousarray(split.labels, "<i8").data)
            rows = max(1, _HASHED // max(1, math.prod(split.images.shape[1:])))
            for start in range(0, len(split), rows):
                digest.update(np.ascontiguousarray(split.images[start : start + rows]).data)
        return digest.hexdigest()


def _size(images: np.ndarray) -> str:
    height, width, channels = images.shape[1:]
    return f"{width} x {height} pixels, {'gray' if channels == 1 else 'colour'}"
