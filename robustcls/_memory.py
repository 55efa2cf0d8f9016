"""What the machine has too little of, in a line with the way out."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from robustcls._validation import InputError

_FULL = "No space left on device"
_REMEDIES = {
    errno.ENOSPC: "Make room on that disk, or choose another folder.",
    errno.EDQUOT: "Make room within your quota, or choose another folder.",
    errno.EROFS: "Choose a folder that can be written.",
    errno.EACCES: "Choose a folder that can be written, and files that can be read.",
    errno.EPERM: "Choose a folder that can be written, and files that can be read.",
    errno.EMFILE: "Allow more open files (ulimit -n).",
    errno.ENOMEM: "Take a smaller batch_size, or smaller images.",
    errno.EIO: "The disk may be failing; choose another folder.",
}
# What TensorFlow and HDF5 say of them, whose errors have no number.
_WORDS = {
    _FULL: errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "Read-only file system": errno.EROFS,
    "Permission denied": errno.EACCES,
    "Too many open files": errno.EMFILE,
    "Cannot allocate memory": errno.ENOMEM,
    "Input/output error": errno.EIO,
}
_MOST = 200


@contextlib.contextmanager
def within_memory(batch_size: int | None, argument: str = "batch_size") -> Iterator[None]:
    """Makes a want of memory during the block a line that suggests a batch size.

    Args:
        batch_size: images at a time.
        argument: its name (str, default "batch_size").

    Raises:
        InputError: the memory did not do.
    """
    try:
        yield
    except Exception as error:
        if batch_size is None or not is_want_of_memory(error):
            raise
        raise InputError(
            f"{argument} must be smaller for the memory that there is; received {batch_size}. Try "
            f"{max(1, batch_size // 2)}, or smaller images ({_first_line(error)})."
        ) from error


def is_want_of_memory(error: BaseException) -> bool:
    """Whether Python, NumPy or TensorFlow got no memory; a full disk is another matter."""
    exhausted = type(error).__name__ == "ResourceExhaustedError" and _FULL not in str(error)
    return isinstance(error, MemoryError) or exhausted


def in_a_line(error: Exception) -> str | None:
    """Returns what is to be said of an error of the system; None of any other.

    Args:
        error: as it was caught.
    """
    if is_want_of_memory(error):
        return f"the memory does not do ({_first_line(error)}). {_REMEDIES[errno.ENOMEM]}"
    if not isinstance(error, OSError) and not _is_tensorflows(error):
        return None
    text = str(error)
    number = getattr(error, "errno", None)
    number = number or next((found for words, found in _WORDS.items() if words in text), None)
    if number is None and not isinstance(error, OSError):
        return None
    strerror = getattr(error, "strerror", None)
    file = getattr(error, "filename", None)
    words = f"{file}: {strerror}" if file and strerror else _first_line(error)
    return f"{words}. {_REMEDIES.get(number or 0, '')}".strip()


def _is_tensorflows(error: Exception) -> bool:
    return type(error).__module__.startswith("tensorflow.python.framework.errors")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:_MOST].rstrip(".")
