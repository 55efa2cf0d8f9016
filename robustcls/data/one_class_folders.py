"""Folders of one normal class: images alone, and the layouts of the sets of defects."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from robustcls._validation import InputError
from robustcls.data.decoding import read_image
from robustcls.data.files import image_files, subfolders
from robustcls.data.resizing import fit

Found = dict[str, tuple[list[str], np.ndarray]]
NORMAL = "normal"
_TEST = ("test", "test_public")
_VALIDATION = ("validation", "val")
_MASKS = "ground_truth"


def scan_one_class(root: Path) -> tuple[Found, list[str]] | None:
    """Finds the images of a folder of one normal class.

    One of
    - `root/*`: normal images alone;
    - `root/train/good/*`, `root/test/KIND/*`: MVTec AD's layout, MVTec LOCO's (with
      `validation/good`) and MVTec AD 2's (`test_public`); any one folder name in `train` is the
      normal class's;
    - `root/Data/Images/Normal/*`, `root/Data/Images/Anomaly/*`: VisA's.

    Args:
        root: the folder.

    Returns:
        {split: (file names under root, labels)} and the class names, the normal one first; None
        where the folder has none of these layouts.

    Raises:
        InputError: the folder is missing or cannot be listed, or has no normal image.
    """
    if not root.is_dir():
        problem = "is a file" if root.exists() else "does not exist"
        raise InputError(f"data must be an image folder; {root} {problem}.")
    visa = root / "Data" / "Images" / "Normal"
    if visa.is_dir():
        folders = {"normal": visa, "anomaly": visa.with_name("Anomaly")}
        return _listed(root, {"train": {"normal": visa}}, [*folders], folders)
    classes = subfolders(root / "train") if (root / "train").is_dir() else []
    if len(classes) == 1:
        normal = classes[0].name
        splits = {"train": {normal: classes[0]}}
        for part, names in (("validation", _VALIDATION), ("test", _TEST)):
            kinds = {
                folder.name: folder
                for name in names
                if (root / name).is_dir()
                for folder in subfolders(root / name)
                if folder.name != _MASKS
            }
            if kinds:
                splits[part] = kinds
        others = {name for kinds in splits.values() for name in kinds} - {normal}
        return _listed(root, splits, [normal, *sorted(others)])
    if not classes and not subfolders(root):
        return _listed(root, {"train": {NORMAL: root}}, [NORMAL])
    return None


def _listed(
    root: Path,
    splits: dict[str, dict[str, Path]],
    class_names: list[str],
    cut: dict[str, Path] | None = None,
) -> tuple[Found, list[str]]:
    found: Found = {}
    for part, folders in splits.items():
        names: list[str] = []
        labels: list[int] = []
        for name, folder in folders.items():
            files = _names(root, folder)
            names += files
            labels += [class_names.index(name)] * len(files)
        found[part] = names, np.array(labels, np.int64)
    if not found["train"][0]:
        raise InputError(f"data must hold normal images; {root} has none.")
    if cut is not None:
        found = _cut(found["train"][0], _names(root, cut["anomaly"]))
    return found, class_names


def _cut(normal: list[str], anomalous: list[str]) -> Found:
    """Splits a set that names no splits: every fifth normal image is for testing."""
    test = normal[::5]
    train = [name for place, name in enumerate(normal) if place % 5]
    labels = np.array([0] * len(test) + [1] * len(anomalous), np.int64)
    return {"train": (train, np.zeros(len(train), np.int64)), "test": (test + anomalous, labels)}


def _names(root: Path, folder: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in image_files(folder)]


def read_masks(
    root: Path, ids: Iterable[str], size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Reads where the defects of test images are.

    A mask stands where the sets have it: `ground_truth/KIND/NAME_mask.png` beside `test`
    (MVTec AD), in `test_public` (MVTec AD 2), a folder `ground_truth/KIND/NAME/` of several
    (MVTec LOCO), or `Data/Masks/Anomaly/NAME.png` (VisA).

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
        files = _mask_files(root / name)
        mask = np.zeros(size, bool)
        for file in files:
            mask |= _marked(file, size)
        masks.append(mask)
        known.append(bool(files))
    return np.array(masks, bool).reshape(-1, *size), np.array(known, bool)


def _marked(file: Path, size: tuple[int, int]) -> np.ndarray:
    # Any value but zero marks a defect: LOCO's are numbers of kinds.
    pixels = read_image(file, None, 1)[..., 0] > 0
    return fit(np.uint8(255) * pixels[..., None].astype(np.uint8), size, None)[..., 0] >= 128


def _mask_files(image: Path) -> list[Path]:
    kind, part = image.parent, image.parent.parent
    if part.name == "Images":
        place = part.parent / "Masks" / kind.name
    else:
        beside = part if part.name == "test_public" else part.parent
        place = beside / _MASKS / kind.name
    for name in (f"{image.stem}_mask.png", f"{image.stem}.png"):
        if (place / name).is_file():
            return [place / name]
    return image_files(place / image.stem) if (place / image.stem).is_dir() else []
