"""Masks of defects, where each set has them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from robustcls.data.decoding import read_image
from robustcls.data.files import image_files
from robustcls.data.resizing import fit

#: The folder of masks, in small letters.
MASKS = "ground_truth"


def read_masks(
    root: Path, ids: Iterable[str], size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Reads where the defects of test images are.

    A mask stands where the sets have it: `ground_truth/KIND/NAME_mask.png` beside `test`
    (MVTec AD), in `test_public` (MVTec AD 2), a folder `ground_truth/KIND/NAME/` of several
    (MVTec LOCO), `Data/Masks/Anomaly/NAME.png` (VisA), or `Test001_gt/NAME.bmp` (UCSD).

    Args:
        root: the folder that `load` was given.
        ids: names of test images, as in `Split.ids`.
        size: (height, width) of the result; a pixel is of a defect where at least half of what it
            covers is.

    Returns:
        bool [N, height, width], and bool [N], whether an image has a mask; one that has none is
        False everywhere.

    Raises:
        InputError: a mask cannot be read.
    """
    masks, known = [], []
    for name in ids:
        files = mask_files(root / name)
        mask = np.zeros(size, bool)
        for file in files:
            mask |= marked(file, size)
        masks.append(mask)
        known.append(bool(files))
    return np.array(masks, bool).reshape(-1, *size), np.array(known, bool)


def marked(file: Path, size: tuple[int, int]) -> np.ndarray:
    """Returns which pixels a mask marks, bool [height, width].

    Args:
        file: the mask.
        size: (height, width) of the result.

    Raises:
        InputError: it cannot be read.
    """
    # Any value but zero marks a defect: LOCO's are numbers of kinds.
    pixels = read_image(file, None, 1)[..., 0] > 0
    return fit(np.uint8(255) * pixels[..., None].astype(np.uint8), size, None)[..., 0] >= 128


def mask_files(image: Path) -> list[Path]:
    """Returns the files that hold an image's mask; none where it has none.

    Args:
        image: the file of a test image.
    """
    kind, part = image.parent, image.parent.parent
    if part.name == "Images":
        place = part.parent / "Masks" / kind.name
    elif part.name == "Test" and re.fullmatch(r"Test\d+", kind.name):
        place = part / f"{kind.name}_gt"
    else:
        beside = part if part.name == "test_public" else part.parent
        place = beside / MASKS / kind.name
    for name in (f"{image.stem}_mask.png", f"{image.stem}.png", f"{image.stem}.bmp"):
        if (place / name).is_file():
            return [place / name]
    return image_files(place / image.stem) if (place / image.stem).is_dir() else []
