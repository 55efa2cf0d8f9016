"""Masks of where what counts is known to be, from picture files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from robustcls._validation import InputError
from robustcls.data.decoding import probe, read_image
from robustcls.data.resizing import fit

_ENDINGS = (".png", ".bmp", ".tif", ".tiff", ".gif")


def read_masks(
    folder: Path | str, names: Sequence[str], size: tuple[int, int], *, resized: bool = False
) -> np.ndarray:
    """Returns where what counts is, bool [N, H, W].

    The mask of `kind/a.jpg` is `kind/a.png` in the folder, or `kind/a_mask.png`, or either without
    `kind`; any value but 0 marks a pixel. An image without a mask has an empty one, of which
    measures tell nothing.

    Args:
        folder: of the masks.
        names: of the images.
        size: (H, W) of the images.
        resized: the images were brought to that size, and the masks are too; else masks must have
            it (bool, default False).

    Raises:
        InputError: there is no folder, no image has a mask, or one cannot be read or has another
            size.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"masks must be a folder of pictures; {folder} is none.")
    files = [_file_of(folder, Path(name)) for name in names]
    if not any(files):
        near = f"{Path(names[0]).stem}.png" if len(names) else "a.png"
        raise InputError(
            f"masks must have the names of images, such as {near}; {folder} has none for "
            f"{len(names)} images."
        )
    return np.stack([_mask(file, size, resized) for file in files])


def _file_of(folder: Path, name: Path) -> Path | None:
    # A name may be a whole path, or begin with the part of the set that it is from.
    for parts in range(len(name.parts)):
        inner = Path(*name.parts[parts:])
        if inner.is_absolute() or ".." in inner.parts:
            continue
        for stem in (inner.stem, f"{inner.stem}_mask"):
            for ending in _ENDINGS:
                file = folder / inner.parent / f"{stem}{ending}"
                if file.is_file():
                    return file
    return None


def _mask(file: Path | None, size: tuple[int, int], resized: bool) -> np.ndarray:
    if file is None:
        return np.zeros(size, bool)
    if not resized and probe(file)[:2] != size:
        height, width = probe(file)[:2]
        raise InputError(
            f"masks must be {size[1]} x {size[0]} pixels, as the images are; {file} is "
            f"{width} x {height}."
        )
    marked = read_image(file, None, 1) > 0
    return fit(np.uint8(255) * marked.astype(np.uint8), size, None)[..., 0] >= 128
