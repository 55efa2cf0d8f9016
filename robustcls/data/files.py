"""Which files of a folder are images, by one rule; and images that stay in their files."""

from __future__ import annotations

import abc
import math
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from robustcls._validation import InputError
from robustcls.data.decoding import EXTENSIONS, BadImageError, read_image
from robustcls.data.resizing import Size

# Fewer images are not worth threads.
_ALONE = 16

# What file managers, network drives and archives leave beside a user's files.
_OF_THE_SYSTEM = frozenset(
    ("@eadir", "__macosx", "#recycle", "$recycle.bin", "system volume information", "lost+found")
)


def is_visible(name: str) -> bool:
    """Whether a file or folder of this name is the user's: not hidden, not the system's."""
    return name[:1] != "." and name.lower() not in _OF_THE_SYSTEM


def subfolders(folder: Path) -> list[Path]:
    """Returns the visible folders in `folder`, links to folders too, sorted.

    Raises:
        InputError: it cannot be listed.
    """
    try:
        return sorted(c for c in folder.iterdir() if is_visible(c.name) and c.is_dir())
    except OSError as error:
        raise InputError(f"{folder} cannot be listed: {error.strerror}.") from None


def image_files(folder: Path) -> list[Path]:
    """Returns the image files under `folder`, in the same order everywhere.

    Images are files that end as such, in any case (`EXTENSIONS`), at any depth, behind links to
    folders too; a folder that links lead to twice is taken where it comes first, and one above
    `folder` not at all. Hidden files,
    those of the system (`._a.png`, `@eaDir`, `__MACOSX`) and files of other kinds are left out.

    Args:
        folder: an existing folder.

    Raises:
        InputError: a folder cannot be listed, or a name is no valid Unicode.
    """
    found: list[Path] = []
    # A link to a folder above would bring in images of other classes.
    _collect(folder, found, {str(above) for above in Path(os.path.realpath(folder)).parents})
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def names_in(root: Path, folder: Path) -> list[str]:
    """Returns the image files under `folder` by their names under `root`, with `/` between parts.

    Args:
        root: a folder above.
        folder: as for `image_files`.

    Raises:
        InputError: as for `image_files`.
    """
    return [path.relative_to(root).as_posix() for path in image_files(folder)]


def named_files(names: Iterable[Path | str]) -> list[Path]:
    """Returns files that a user names, and for a folder the image files in it.

    Args:
        names: files, whatever their names end in, and folders.

    Raises:
        InputError: as for `image_files`.
    """
    paths = [Path(name).expanduser() for name in names]
    return [file for path in paths for file in (image_files(path) if path.is_dir() else [path])]


def _collect(folder: Path, found: list[Path], seen: set[str]) -> None:
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    try:
        children = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder} cannot be listed: {error.strerror}.") from None
    for child in children:
        if not is_visible(child.name):
            continue
        check_name(child)
        if child.is_dir():
            _collect(child, found, seen)
        elif child.name.lower().endswith(EXTENSIONS):
            found.append(child)


def check_name(path: Path) -> None:
    """Refuses a name that no report can print.

    Raises:
        InputError: the name is no valid Unicode.
    """
    try:
        path.name.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"File and class names must be valid Unicode; received {path.name!r} in {path.parent}."
        ) from None


class StreamedImages(abc.ABC):
    """What stands for the array of a split: an index decodes images, and nothing else is kept.

    It is indexed along the images like the uint8 array [N, H, W, C] that they decode to, bit for
    bit, and gives arrays back. `np.asarray` decodes all of them.

    Args:
        count: of the images.
        one: (height, width, channels) of each.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, count: int, one: tuple[int, int, int]) -> None:
        self._count, self._one = count, one

    @abc.abstractmethod
    def decode(self, place: int) -> np.ndarray:
        """Returns one image, uint8 [H, W, C].

        Args:
            place: its number.

        Raises:
            InputError: it cannot be read, or has another size than when the set was opened.
        """

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(images, height, width, channels)."""
        return self._count, *self._one

    @property
    def nbytes(self) -> int:
        """What the decoded images would take, in bytes."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> np.ndarray:
        """Decodes images.

        Args:
            index: an integer, a slice, or an array of integers or of booleans [N].

        Raises:
            InputError: as for `decode`.
        """
        places = np.arange(len(self))[index]
        if places.ndim == 0:
            return self.decode(int(places))
        images = np.empty((len(places), *self._one), np.uint8)
        if len(places) < _ALONE:
            self._fill(images, places)
            return images
        threads = _pool()
        pieces = np.array_split(np.arange(len(places)), os.cpu_count() or 1)
        for done in [threads.submit(self._fill, images, places, rows) for rows in pieces]:
            done.result()
        return images

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Decodes all images."""
        images = self[:]
        return images if dtype is None else images.astype(dtype, copy=False)

    def _fill(
        self, images: np.ndarray, places: np.ndarray, rows: Iterable[int] | None = None
    ) -> None:
        for row in range(len(places)) if rows is None else rows:
            images[row] = self.decode(int(places[row]))


class FileImages(StreamedImages):
    """The images of a folder, which stay in their files.

    Args:
        root: the folder that the names are under.
        names: of the files.
        shape: (height, width, channels) of each image.
        size: that the images are resized to, or None.
    """

    def __init__(
        self, root: Path, names: np.ndarray, shape: tuple[int, int, int], size: Size
    ) -> None:
        super().__init__(len(names), shape)
        self._root, self._names, self._size = root, names, size

    def decode(self, place: int) -> np.ndarray:
        path = self._root / self._names[place]
        pixels = read_image(path, self._size, self._one[2])
        if pixels.shape != self._one:
            raise BadImageError(path, "its pixels do not have the size in its header")
        return pixels

    def only(self, chosen: np.ndarray) -> FileImages:
        """Returns some of the images, still in their files.

        Args:
            chosen: which, int [K] or bool [N].
        """
        return FileImages(self._root, self._names[chosen], self._one, self._size)

    def gray(self) -> FileImages:
        """Returns the images with one channel."""
        return FileImages(self._root, self._names, (*self._one[:2], 1), self._size)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="decoding")
