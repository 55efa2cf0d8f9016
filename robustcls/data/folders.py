"""Image folders: `root/split/class/*` or `root/class/*`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from robustcls._validation import InputError
from robustcls.data.carving import assign
from robustcls.data.decoding import EXTENSIONS, BadImageError, probe, quiet_pillow, read_image
from robustcls.data.resizing import Size
from robustcls.data.splits import Split, Splits
from robustcls.data.storage import allocate

Result = TypeVar("Result")

_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
    "testing": "test",
}
_OF_THE_SYSTEM = ("Thumbs.db", "desktop.ini")


def load_folder(
    root: Path,
    *,
    size: Size,
    channels: int | None,
    validation_fraction: float,
    seed: int,
    skip_bad_images: bool,
) -> Splits:
    """Reads an image folder; the arguments are those of `robustcls.load`.

    Raises:
        InputError: the folder is missing or holds no classes, a class has no images, a file
            cannot be read, or sizes differ and no size is asked for.
    """
    found, class_names = _scan(root)
    skipped: list[str] = []
    shapes: list[tuple[int, int, int]] = []
    stored = {}
    for part, (names, labels) in found.items():
        paths = [root / name for name in names]
        results = _for_each(probe, paths, skip_bad_images, f"Checking {part}")
        good = np.array([isinstance(result, tuple) for result in results], bool)
        skipped += [name for name, fine in zip(names, good, strict=True) if not fine]
        shapes += [result for result in results if isinstance(result, tuple)]
        stored[part] = labels[good], np.array(names)[good]
    _check_classes(stored, class_names, root)
    if size is None:
        _check_one_size(shapes, [name for _, ids in stored.values() for name in ids])
    height, width = size or shapes[0][:2]
    depth = channels or max(shape[2] for shape in shapes)

    assignment = assign(stored, validation_fraction, seed)
    parts = {}
    for part in ("train", "validation", "test"):
        source, indices = assignment.parts[part]
        labels, ids = (array[indices] for array in stored[source])
        images = allocate((len(ids), height, width, depth))

        decode = partial(_decode_into, images, root, ids, size, depth)
        done = _for_each(decode, range(len(ids)), skip_bad_images, f"Reading {part}")
        good = np.array([result is not None for result in done], bool)
        skipped += list(ids[~good])
        parts[part] = Split(_keep(images, good), labels[good], ids[good])
    if skipped:
        _check_classes({"train": (parts["train"].labels, parts["train"].ids)}, class_names, root)
    source = "; ".join([f"image folder {root}", *assignment.notes])
    return Splits(
        parts["train"],
        parts["validation"],
        parts["test"],
        tuple(class_names),
        source,
        tuple(sorted(skipped)),
    )


def _decode_into(
    images: np.ndarray, root: Path, ids: np.ndarray, size: Size, channels: int, place: int
) -> bool:
    pixels = read_image(root / ids[place], size, channels)
    if pixels.shape != images.shape[1:]:
        raise BadImageError(root / ids[place], "its pixels do not have the size in its header")
    images[place] = pixels
    return True


def _scan(root: Path) -> tuple[dict[str, tuple[list[str], np.ndarray]], list[str]]:
    """Returns {split: (file names under root, labels)} and the class names."""
    splits = _split_folders(root)
    class_names = [folder.name for folder in _subfolders(splits["train"])]
    if len(class_names) < 2:
        raise InputError(
            f"name must be a folder of class folders, root/class/* or root/split/class/*; "
            f"{splits['train']} holds {len(class_names)} folders."
        )
    found = {}
    for part, folder in splits.items():
        names: list[str] = []
        labels: list[int] = []
        for class_folder in _subfolders(folder):
            if class_folder.name not in class_names:
                raise InputError(
                    f"Classes must be the same in each split; {class_folder} is not in "
                    f"{splits['train']}."
                )
            files = _files(class_folder)
            if not any(name.lower().endswith(EXTENSIONS) for name in files):
                raise InputError(
                    f"Each class needs images ({', '.join(EXTENSIONS)}); {class_folder} has none."
                )
            _check_names([class_folder.name, *files], folder)
            names += [(class_folder / name).relative_to(root).as_posix() for name in files]
            labels += [class_names.index(class_folder.name)] * len(files)
        found[part] = names, np.array(labels, np.int64)
    return found, class_names


def _check_names(names: Sequence[str], folder: Path) -> None:
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"File and class names must be valid Unicode; received {name!r} in {folder}."
            ) from None


def _split_folders(root: Path) -> dict[str, Path]:
    """Returns {split: folder}; only "train" when the classes lie in `root` itself."""
    if not root.is_dir():
        problem = "is a file" if root.exists() else "does not exist"
        raise InputError(f"name must be an image folder; {root} {problem}.")
    folders = _subfolders(root)
    splits = {
        _SPLIT_NAMES[folder.name.lower()]: folder
        for folder in folders
        if folder.name.lower() in _SPLIT_NAMES
    }
    # "train" is also a class of vehicle: splits hold folders, classes hold images.
    if "train" not in splits or not _subfolders(splits["train"]):
        return {"train": root}
    others = [folder.name for folder in folders if folder not in splits.values()]
    if others:
        raise InputError(
            f"Beside {splits['train']} only validation and test folders are expected; "
            f"received {', '.join(others)}."
        )
    return splits


def _subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(
            child for child in folder.iterdir() if child.is_dir() and child.name[0] != "."
        )
    except OSError as error:
        raise InputError(f"{folder} cannot be listed: {error.strerror}.") from None


def _files(folder: Path) -> list[str]:
    """Returns the visible files under `folder`, at any depth, in the same order everywhere."""

    def fail(error: OSError) -> None:
        raise InputError(f"{error.filename} cannot be listed: {error.strerror}.")

    names = []
    for parent, subfolders, files in os.walk(folder, onerror=fail):
        subfolders[:] = [name for name in subfolders if name[0] != "."]
        names += [
            (Path(parent) / name).relative_to(folder).as_posix()
            for name in files
            if name[0] != "." and name not in _OF_THE_SYSTEM
        ]
    return sorted(names)


def _for_each(
    read: Callable[..., Result], items: Sequence, skip: bool, title: str
) -> list[Result | None]:
    """Calls `read` on each item in threads; a `BadImageError` is None when `skip`, else raised."""

    def one(item: object) -> Result | None:
        try:
            return read(item)
        except BadImageError:
            if not skip:
                raise
            return None

    with quiet_pillow(), ThreadPoolExecutor() as pool:
        results = pool.map(one, items)
        try:
            return list(tqdm(results, title, len(items), delay=1, disable=None, leave=False))
        except BaseException:  # also Ctrl-C, which else waits for all files
            pool.shutdown(cancel_futures=True)
            raise


def _keep(images: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Returns the good images, moved together in place: there may be no room for a copy."""
    if good.all():
        return images
    for place, old in enumerate(np.flatnonzero(good)):
        images[place] = images[old]
    return images[: np.count_nonzero(good)]


def _check_classes(
    stored: dict[str, tuple[np.ndarray, np.ndarray]], class_names: Sequence[str], root: Path
) -> None:
    counts = np.bincount(stored["train"][0], minlength=len(class_names))
    empty = [name for name, count in zip(class_names, counts, strict=True) if not count]
    if empty:
        raise InputError(f"Each class needs images; {root} has no readable one of {empty[0]}.")


def _check_one_size(shapes: Sequence[tuple[int, int, int]], names: Sequence[str]) -> None:
    for shape, name in zip(shapes, names, strict=True):
        if shape[:2] != shapes[0][:2]:
            first, other = (f"{height}x{width}" for height, width, _ in (shapes[0], shape))
            raise InputError(
                f"Images must have one size unless image_size is given; {names[0]} is {first} "
                f"and {name} is {other} (height x width)."
            )
