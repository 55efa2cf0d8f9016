"""Locks on folders that die with the process that holds them."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from robustcls._validation import InputError

try:
    import fcntl
except ImportError:  # no POSIX system: folders are not guarded there
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"


@contextlib.contextmanager
def locked(folder: Path | str, *, shared: bool = False, file: str = LOCK) -> Iterator[None]:
    """Keeps other processes out of a folder during the block.

    The lock is the system's on a file in the folder, so it ends with the process however that ends.
    The file stays. On file systems without locks, and where nothing can be written, the block runs
    without.

    Args:
        folder: exists.
        shared: several may hold it, but nobody alone (bool, default False).
        file: its name in the folder (str, default ".lock").

    Raises:
        InputError: another process holds the lock.
    """
    descriptor = _open(Path(folder) / file)
    if descriptor is None:
        yield
        return
    try:
        _take(descriptor, Path(folder), shared)
        yield
    finally:
        os.close(descriptor)


def _open(path: Path) -> int | None:
    if fcntl is None:
        return None
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:  # what is written next says so
        return None


def _take(descriptor: int, folder: Path, shared: bool) -> None:
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
        raise InputError(
            f"the folder must not be in use; {folder} is, by {holder or 'another process'}. Wait "
            "until that ends, or choose another folder."
        ) from None
    except OSError:  # a file system without locks
        return
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
