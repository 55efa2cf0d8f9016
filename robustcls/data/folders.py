"""Image folders: `root/split/class/*` or `root/class/*`."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from robustcls._validation import InputError
from robustcls.data.decoding import (
    EXTENSIONS,
    FileReader,
    counted,
    probe,
)
from robustcls.data.files import FileImages, check_name, image_files, subfolders
from robustcls.data.held_out import assign
from robustcls.data.one_class.layouts import scan_one_class
from robustcls.data.resizing import changes
from robustcls.data.splits import Reading, Split, Splits
from robustcls.data.storage import allocate, exceeds

_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
    "testing": "test",
}


def load_folder(name: str | os.PathLike[str], reading: Reading) -> Splits:
    """Reads an image folder.

    Args:
        name: the folder; "~" is the user's.
        reading: how.

    Raises:
        InputError: the folder is missing or holds no classes, a class has no images, a file
            cannot be read, or sizes differ and no size is asked for.
    """
    root, size, channels = Path(name).expanduser(), reading.size, reading.channels
    found, class_names = (scan_one_class(root) if reading.one_class else None) or _scan(root)
    skipped: list[str] = []
    shapes: dict[str, tuple[int, int, int]] = {}
    stored = {}
    files = FileReader(skip=reading.skip_bad_images)
    for part, (names, labels) in found.items():
        results = files.each(lambda name: probe(root / name), names, f"Checking {part}")
        good = np.array([isinstance(result, tuple) for result in results], bool)
        skipped += [name for name, fine in zip(names, good, strict=True) if not fine]
        shapes |= {
            name: result
            for name, result in zip(names, results, strict=True)
            if isinstance(result, tuple)
        }
        stored[part] = labels[good], np.array(names)[good]
    files.require_readable([root / name for name in shapes])
    wanted = [class_names[label] for label in np.unique(found["train"][1])]
    _check_classes(stored["train"][0], wanted, root)
    if size is None:
        _check_one_size(shapes)
    height, width = size or next(iter(shapes.values()))[:2]
    depth = channels or max(shape[2] for shape in shapes.values())

    assignment = assign(stored, reading.validation_fraction, reading.seed)
    parts = {}
    for part in ("train", "validation", "test"):
        source, indices = assignment.parts[part]
        labels, ids = (array[indices] for array in stored[source])
        streamed = FileImages(root, ids, (height, width, depth), size)
        # Without a limit of the user's, what is too large goes to disk, and is decoded once.
        stays = reading.memory is not None and exceeds(streamed.shape, reading.memory)
        images: Any = streamed if stays else allocate(streamed.shape, reading.memory)
        decode = partial(_decode, streamed, None if stays else images)
        done = files.each(decode, range(len(ids)), f"Reading {part}")
        good = np.array([result is not None for result in done], bool)
        skipped += ids[~good].tolist()
        kept: Any = streamed.only(good) if stays else _keep(images, good)
        parts[part] = Split(kept, labels[good], ids[good])
    files.require_readable()
    read = [name for split in parts.values() for name in split.ids]
    if channels is None and depth > max((shapes[name][2] for name in read), default=depth):
        # The only colour pictures were bad ones.
        parts = {p: Split(_gray(s.images), s.labels, s.ids) for p, s in parts.items()}
    if skipped:
        _check_classes(parts["train"].labels, wanted, root)
    left_out = [f"{counted(len(skipped))} left out"] if skipped else []
    source = "; ".join([f"image folder {root}", *assignment.notes, *left_out])
    return Splits(
        parts["train"],
        parts["validation"],
        parts["test"],
        tuple(class_names),
        source,
        tuple(sorted(skipped)),
        changes(shapes.values(), size, channels),
    )


def image_sizes(root: Path, one_class: bool = False) -> list[tuple[int, int]]:
    """Returns (height, width) of each readable image of a folder, from the files' headers.

    Args:
        root: as for `load_folder`.
        one_class: take folders of one normal class too (bool, default False).

    Raises:
        InputError: the folder is missing or holds no classes, or a class has no images.
    """
    found, _ = (scan_one_class(root) if one_class else None) or _scan(root)
    paths = [root / name for names, _ in found.values() for name in names]
    shapes = FileReader(skip=True).each(probe, paths, "Checking sizes")
    return [shape[:2] for shape in shapes if shape is not None]


def _decode(files: FileImages, images: np.ndarray | None, place: int) -> bool:
    """Decodes a file into its place, or to see that it can be read."""
    pixels = files.decode(place)
    if images is not None:
        images[place] = pixels
    return True


def _gray(images: Any) -> Any:
    return images.gray() if isinstance(images, FileImages) else images[..., :1]


def _scan(root: Path) -> tuple[dict[str, tuple[list[str], np.ndarray]], list[str]]:
    """Returns {split: (file names under root, labels)} and the class names."""
    splits = _split_folders(root)
    class_names = sorted(_class_name(folder) for folder in subfolders(splits["train"]))
    if len(class_names) < 2:
        only = subfolders(splits["train"])
        hint = "Images of one kind alone are for `anomaly train`."
        if only and len(subfolders(only[0])) > 1:
            hint = f"Did you mean {only[0]}?"
        raise InputError(
            f"name must be a folder of class folders, root/class/* or root/split/class/*; "
            f"{splits['train']} holds {len(only)} folder{'s' * (len(only) != 1)}. {hint}"
        )
    found = {}
    for part, folder in splits.items():
        names: list[str] = []
        labels: list[int] = []
        for class_folder in sorted(subfolders(folder), key=_class_name):
            name = _class_name(class_folder)
            if name not in class_names:
                raise InputError(
                    f"Classes must be the same in each split; {class_folder} is not in "
                    f"{splits['train']}."
                )
            files = image_files(class_folder)
            if not files:
                raise InputError(
                    f"Each class needs images ({', '.join(EXTENSIONS)}); {class_folder} has none."
                )
            names += [path.relative_to(root).as_posix() for path in files]
            labels += [class_names.index(name)] * len(files)
        found[part] = names, np.array(labels, np.int64)
    return found, class_names


def _class_name(folder: Path) -> str:
    """The folder's name; a Mac writes its accents as characters of their own."""
    check_name(folder)
    return unicodedata.normalize("NFC", folder.name)


def _split_folders(root: Path) -> dict[str, Path]:
    """Returns {split: folder}; only "train" when the classes lie in `root` itself."""
    if not root.is_dir():
        problem = "is a file" if root.exists() else "does not exist"
        raise InputError(f"name must be an image folder; {root} {problem}.")
    folders = subfolders(root)
    splits = {
        _SPLIT_NAMES[folder.name.lower()]: folder
        for folder in folders
        if folder.name.lower() in _SPLIT_NAMES
    }
    # "train" is also a class of vehicle: splits hold folders, classes hold images.
    if "train" not in splits or not subfolders(splits["train"]):
        if folders and len(folders) == len(splits):
            raise InputError(
                f"Images must be in a folder for each class, root/split/class/*; {folders[0]} "
                "holds none."
            )
        return {"train": root}
    others = [folder.name for folder in folders if folder not in splits.values()]
    if others:
        raise InputError(
            f"Beside {splits['train']} only validation and test folders are expected; "
            f"received {', '.join(others)}. Sets of one normal class are for `anomaly train`."
        )
    return splits


def _keep(images: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Returns the good images, moved together in place: there may be no room for a copy."""
    if good.all():
        return images
    for place, old in enumerate(np.flatnonzero(good)):
        images[place] = images[old]
    return images[: np.count_nonzero(good)]


def _check_classes(labels: np.ndarray, class_names: Sequence[str], root: Path) -> None:
    counts = np.bincount(labels, minlength=len(class_names))
    empty = [name for name, count in zip(class_names, counts, strict=False) if not count]
    if empty:
        raise InputError(f"Each class needs images; {root} has no readable one of {empty[0]}.")


def _check_one_size(shapes: Mapping[str, tuple[int, int, int]]) -> None:
    first = next(iter(shapes))
    for name, shape in shapes.items():
        if shape[:2] != shapes[first][:2]:
            one, other = (f"{height}x{width}" for height, width, _ in (shapes[first], shape))
            raise InputError(
                f"Images must have one size unless image_size is given; {first} is {one} "
                f"and {name} is {other} (height x width)."
            )
