"""Which files of a folder are images: one rule for every command."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from robustcls._validation import InputError
from robustcls.data.decoding import EXTENSIONS

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
    folders too; a folder that links lead to twice is taken where it comes first. Hidden files,
    those of the system (`._a.png`, `@eaDir`, `__MACOSX`) and files of other kinds are left out.

    Args:
        folder: an existing folder.

    Raises:
        InputError: a folder cannot be listed, or a name is no valid Unicode.
    """
    found: list[Path] = []
    _collect(folder, found, set())
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


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
