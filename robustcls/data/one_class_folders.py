"""Folders of one normal class: images alone, and the layouts of the sets of defects."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from robustcls._validation import InputError
from robustcls.data.decoding import probe, read_image
from robustcls.data.files import image_files, subfolders
from robustcls.data.resizing import fit

Found = dict[str, tuple[list[str], np.ndarray]]
NORMAL = "normal"
_TEST = ("test", "test_public")
_VALIDATION = ("validation", "val")
_MASKS = "ground_truth"
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
    return [
        folder.name
        for folder in subfolders(root)
        if all((folder / part).is_dir() for part in LAYOUTS[kind])
    ]


def scan_one_class(root: Path) -> tuple[Found, list[str]] | None:
    """Finds the images of a folder of one normal class.

    One of
    - `root/*`: normal images alone;
    - `root/train/good/*`, `root/test/KIND/*`: MVTec AD's layout, MVTec LOCO's (with
      `validation/good`) and MVTec AD 2's (`test_public`); any one folder name in `train` is the
      normal class's;
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
        InputError: the folder is missing or cannot be listed, or has no normal image.
    """
    if not root.is_dir():
        problem = "is a file" if root.exists() else "does not exist"
        raise InputError(f"data must be an image folder; {root} {problem}.")
    visa = root / "Data" / "Images" / "Normal"
    if visa.is_dir():
        folders = {"normal": visa, "anomaly": visa.with_name("Anomaly")}
        return _listed(root, {"train": {"normal": visa}}, [*folders], folders)
    films = _films(root / "Train", "Train")
    if films:
        return _frames(root, films)
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


def _films(folder: Path, word: str) -> list[Path]:
    """UCSD's folders of frames, `Train001` and on, without those of masks."""
    if not folder.is_dir():
        return []
    return [film for film in subfolders(folder) if re.fullmatch(rf"{word}\d+", film.name)]


def films_of(ids: Iterable[str]) -> list[str] | None:
    """Returns the film of each test frame of UCSD; None where images are no such frames.

    Args:
        ids: names of test images, as in `Split.ids`.
    """
    found = [re.fullmatch(r"Test/(Test\d+)/.*", name) for name in ids]
    return [match[1] for match in found if match] if found and all(found) else None


def _frames(root: Path, films: list[Path]) -> tuple[Found, list[str]]:
    """The frames of UCSD's films with labels from masks or from the list of anomalous frames.

    Frames of one film are alike, so the last tenth of the training films is kept from training.
    """
    last = max(1, len(films) // 10) if len(films) > 1 else 0
    parts = {"train": films[: len(films) - last], "validation": films[len(films) - last :]}
    normal = {
        part: [name for film in own for name in _names(root, film)] for part, own in parts.items()
    }
    if not normal["train"]:
        raise InputError(f"data must hold normal images; {root / 'Train'} has none.")
    tests = _films(root / "Test", "Test")
    if not tests:
        raise InputError(f"data must hold films to test on; {root} has no Test/Test001.")
    listed = _listed_frames(root / "Test", len(tests))
    names: list[str] = []
    labels: list[int] = []
    for place, film in enumerate(tests):
        frames = _names(root, film)
        masks = [_mask_files(root / name) for name in frames]
        if any(masks):
            missing = next((n for n, files in zip(frames, masks, strict=True) if not files), None)
            if missing is not None:
                raise InputError(
                    f"{film.name}_gt must have a mask for each frame; {missing} has none."
                )
            sides = probe(root / frames[0])[:2]
            own = [int(_marked(files[0], sides).any()) for files in masks]
        elif place < len(listed):
            own = [int(number in listed[place]) for number in range(1, len(frames) + 1)]
        else:
            raise InputError(
                f"data must say which test frames are anomalous; {film} has neither masks in "
                f"{film.name}_gt nor a line in a list like UCSDped1.m."
            )
        names += frames
        labels += own
    found: Found = {
        part: (own, np.zeros(len(own), np.int64)) for part, own in normal.items() if own
    }
    return found | {"test": (names, np.array(labels, np.int64))}, [NORMAL, "anomaly"]


def _listed_frames(folder: Path, count: int) -> list[set[int]]:
    """The anomalous frames of each film, of lines like `...gt_frame = [60:152, 160];`."""
    found: list[set[int]] = []
    for file in sorted(folder.glob("*.m")):
        for text in re.findall(r"gt_frame\s*=\s*\[([^\]]*)\]", file.read_text(errors="replace")):
            frames: set[int] = set()
            for first, last in re.findall(r"(\d+)(?:\s*:\s*(\d+))?", text):
                frames |= set(range(int(first), int(last or first) + 1))
            found.append(frames)
        if found and len(found) != count:
            raise InputError(
                f"{file} must list {count} films, as many as {folder} holds; it lists {len(found)}."
            )
    return found


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
    elif part.name == "Test" and re.fullmatch(r"Test\d+", kind.name):
        place = part / f"{kind.name}_gt"
    else:
        beside = part if part.name == "test_public" else part.parent
        place = beside / _MASKS / kind.name
    for name in (f"{image.stem}_mask.png", f"{image.stem}.png", f"{image.stem}.bmp"):
        if (place / name).is_file():
            return [place / name]
    return image_files(place / image.stem) if (place / image.stem).is_dir() else []
