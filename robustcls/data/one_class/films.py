"""The films of UCSD Ped1 and Ped2: folders of frames, some with masks, some in a list."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from robustcls._validation import InputError
from robustcls.data.decoding import probe
from robustcls.data.files import names_in, subfolders
from robustcls.data.one_class.masks import marked, mask_files

Found = dict[str, tuple[list[str], np.ndarray]]
"""Of each split the names of its files and their labels."""
NORMAL = "normal"


def films_in(folder: Path, word: str) -> list[Path]:
    """Returns the folders of frames, `Train001` and on, without those of masks.

    Args:
        folder: that holds them; it may be missing.
        word: that their names begin with.
    """
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


def frames_of(root: Path, films: list[Path]) -> tuple[Found, list[str]]:
    """Returns the frames of UCSD's films with labels from masks or the list of anomalous frames.

    Frames of one film are alike, so the last tenth of the training films is kept from training.

    Args:
        root: the folder of the set.
        films: those to train on.

    Returns:
        As `scan_one_class` does.

    Raises:
        InputError: there are no frames, or labels for some films alone.
    """
    last = max(1, len(films) // 10) if len(films) > 1 else 0
    parts = {"train": films[: len(films) - last], "validation": films[len(films) - last :]}
    normal = {
        part: [name for film in own for name in names_in(root, film)] for part, own in parts.items()
    }
    if not normal["train"]:
        raise InputError(f"data must hold normal images; {root / 'Train'} has none.")
    tests = films_in(root / "Test", "Test")
    if not tests:
        raise InputError(f"data must hold films to test on; {root} has no Test/Test001.")
    listed = _listed_frames(root / "Test", len(tests))
    names: list[str] = []
    labels: list[int] = []
    for place, film in enumerate(tests):
        frames = names_in(root, film)
        masks = [mask_files(root / name) for name in frames]
        if any(masks):
            missing = next((n for n, files in zip(frames, masks, strict=True) if not files), None)
            if missing is not None:
                raise InputError(
                    f"{film.name}_gt must have a mask for each frame; {missing} has none."
                )
            sides = probe(root / frames[0])[:2]
            own = [int(marked(files[0], sides).any()) for files in masks]
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
