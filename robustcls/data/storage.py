"""Room for decoded images: memory, or a file on disk for sets that would fill it."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from robustcls._validation import InputError

#: Larger arrays go to disk.
MEMORY_LIMIT = 4 * 2**30


def exceeds(shape: tuple[int, ...], memory: float | None) -> bool:
    """Returns whether an uint8 array of `shape` takes more memory than it may.

    Args:
        shape: of the array.
        memory: in GiB; `MEMORY_LIMIT` when None.
    """
    return math.prod(shape) > (MEMORY_LIMIT if memory is None else memory * 2**30)


def allocate(shape: tuple[int, ...], memory: float | None = None) -> np.ndarray:
    """Returns an uninitialized uint8 array of `shape`.

    Where that is more than `memory` it is a `numpy.memmap` over an unnamed file in the cache folder
    (`$XDG_CACHE_HOME/robustcls`, by default `~/.cache/robustcls`), gone when the array is.

    The room is taken at once, so that a disk which others fill meanwhile does no harm.

    Args:
        shape: of the array.
        memory: in GiB; `MEMORY_LIMIT` when None (float > 0 or None, default None).

    Raises:
        InputError: the disk has too little room.
    """
    if not exceeds(shape, memory):
        return np.empty(shape, np.uint8)
    needed = math.prod(shape)
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "robustcls"
    folder.mkdir(parents=True, exist_ok=True)
    # Writing to a memory map on a full disk kills the process, so the room is checked before.
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"The decoded images need {needed / 2**30:.1f} GiB; {folder} has "
            f"{free / 2**30:.1f} GiB free. Pass a smaller image_size, or set XDG_CACHE_HOME."
        )
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, needed)
        except OSError as error:
            raise InputError(
                f"The decoded images need {needed / 2**30:.1f} GiB; {folder} does not give them "
                f"({error.strerror}). Pass a smaller image_size, or set XDG_CACHE_HOME."
            ) from None
        return np.memmap(file, np.uint8, "w+", shape=shape)
