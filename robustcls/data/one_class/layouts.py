"""Folders of one normal class: images alone, and the layouts of the sets of defects."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from robustcls._validation import InputError
from robustcls.data.files import image_files, names_in, subfolders
from robustcls.data.one_class.films import NORMAL, Found, films_in, frames_of
from robustcls.data.one_class.masks import MASKS

_GOOD = "good"
#: By the name of a folder in small letters, what is in it; masks are read with their images.
_PARTS = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "test": "test",
    "test_public": "test",
    MASKS: "masks",
}
#: Sets by the names that may stand before their folder, and what lies in the folder of each.
LAYOUTS = {
    "mvtec": ("train", "test", "ground_truth"),
    "loco": ("train", "validation", "test", "ground_truth"),
    "ad2": ("train", "test_public"),
    "visa": ("Data/Images/Normal", "Data/Images/Anomaly"),
    "ucsd": ("Train", "Test"),
}


def folder_of(name: str | os.PathLike[str]) -> Path | None:
    """Returns the folder of `SET:FOLDER`, for example mvtec:datasets/bottle; None of other names.

    Args:
        name: as for `load`.

    Raises:
        InputError: the folder is missing or none of that set's.
    """
    kind, colon, rest = os.fspath(name).partition(":")
    if not colon or kind not in LAYOUTS:
        return None
    root = Path(rest).expanduser()
    missing = [part for part in LAYOUTS[kind] if not (root / part).is_dir()]
    if missing:
        below = categories(name)
        hint = f" Did you mean {kind}:{root / below[0]}?" if below else ""
        raise InputError(
            f"data must be a folder of {kind} with {missing[0]}; {root} has none.{hint}"
        )
    return root


def categories(name: str | os.PathLike[str]) -> list[str]:
    """Returns the folders in FOLDER of `SET:FOLDER` that are each a category of the set.

    Args:
        name: as for `load`.
    """
    kind, colon, rest = os.fspath(name).partition(":")
    root = Path(rest).expanduser()
    if not colon or kind not in LAYOUTS or not root.is_dir():
        return []
    return [folder.name for folder in subfolders(root) if _are(folder, LAYOUTS[kind])]


def scan_one_class(root: Path) -> tuple[Found, list[str]] | None:
    """Finds the images of a folder of one normal class.

    One of
    - `root/*` or `root/KIND/*`: normal images alone;
    - `root/train/good/*`, `root/test/KIND/*`: MVTec AD's layout, MVTec LOCO's (with
      `validation/good`) and MVTec AD 2's (`test_public`), in any case; any one folder name in
      `train` is the normal class's, and `good` is, where `train` holds the images itself;
    - `root/Data/Images/Normal/*`, `root/Data/Images/Anomaly/*`: VisA's;
    - `root/Train/Train001/*.tif`, `root/Test/Test001/*.tif`: the frames of UCSD Ped1 and Ped2. A
      test frame is anomalous where its mask in `Test001_gt` marks a pixel; of films without masks
      the frames that `Test/*.m` lists.

    Args:
        root: the folder.

    Returns:
        {split: (file names under root, labels)} and the class names, the normal one first; None
        where the folder has none of these layouts.

    Raises:
        InputError: the folder is missing or cannot be listed, has no normal image, or holds several
            sets, or images beside a folder, so that nobody can say which are normal.
    """
    if not root.is_dir():
        problem = "is a file" if root.exists() else "does not exist"
        raise InputError(f"data must be an image folder; {root} {problem}.")
    visa = root / "Data" / "Images" / "Normal"
    if visa.is_dir():
        kinds = {"normal": visa, "anomaly": visa.with_name("Anomaly")}
        return _listed(root, {"train": {"normal": visa}}, [*kinds], kinds)
    films = films_in(root / "Train", "Train")
    if films:
        return frames_of(root, films)
    folders = subfolders(root)
    parts = [_PARTS.get(folder.name.lower(), "") for folder in folders]
    train = [folder for folder, part in zip(folders, parts, strict=True) if part == "train"]
    classes = [kind for folder in train for kind in subfolders(folder)]
    if not classes and all(parts):
        classes = train
    if len(classes) == 1:
        normal = _GOOD if classes == train else classes[0].name
        splits = {"train": {normal: classes[0]}}
        for folder, part in zip(folders, parts, strict=True):
            own = _kinds(folder, normal) if part in ("validation", "test") else {}
            if own:
                splits.setdefault(part, {}).update(own)
        others = {name for kinds in splits.values() for name in kinds} - {normal}
        return _listed(root, splits, [normal, *sorted(others)])
    sets = [f for f in folders if any(_are(f, layout[:2]) for layout in LAYOUTS.values())]
    if sets:
        raise InputError(f"data must be one set; {root} holds several. Did you mean {sets[0]}?")
    if classes or len(folders) > 1:
        return None
    loose = [path for path in image_files(root) if path.parent == root]
    if folders and (loose or subfolders(folders[0])):
        beside = f"{len(loose)} images beside it" if loose else "folders in it"
        raise InputError(
            f"data must be normal images alone, train/good and test/KIND, or a folder for each "
            f"class; {root} holds the folder {folders[0].name} and {beside}."
        )
    normal = folders[0].name if folders else NORMAL
    return _listed(root, {"train": {normal: folders[0] if folders else root}}, [normal])


def _are(folder: Path, parts: Iterable[str]) -> bool:
    return all((folder / part).is_dir() for part in parts)


def _kinds(folder: Path, normal: str) -> dict[str, Path]:
    """The kinds of images of a split, with their folders; the normal one in any case of letters."""
    kinds = [kind for kind in subfolders(folder) if kind.name.lower() != MASKS]
    if not kinds and image_files(folder):
        raise InputError(
            f"data must have a folder for each kind of image in {folder}, {normal} for the normal "
            "ones; received images alone."
        )
    same = normal.lower()
    return {normal if kind.name.lower() == same else kind.name: kind for kind in kinds}


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
            files = names_in(root, folder)
            names += files
            labels += [class_names.index(name)] * len(files)
        found[part] = names, np.array(labels, np.int64)
    if not found["train"][0]:
        raise InputError(f"data must hold normal images; {root} has none.")
    if cut is not None:
        found = _cut(found["train"][0], names_in(root, cut["anomaly"]))
    return found, class_names


def _cut(normal: list[str], anomalous: list[str]) -> Found:
    """Splits a set that names no splits: every fifth normal image is for testing."""
    test = normal[::5]
    train = [name for place, name in enumerate(normal) if place % 5]
    labels = np.array([0] * len(test) + [1] * len(anomalous), np.int64)
    return {"train": (train, np.zeros(len(train), np.int64)), "test": (test + anomalous, labels)}
