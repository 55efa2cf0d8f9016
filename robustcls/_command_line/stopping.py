"""Signals that end a command: what is finished is on disk, and one line says how to go on."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from robustcls.runs import Run

_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGXCPU") if hasattr(signal, name)
)


class Stopped(KeyboardInterrupt):
    """The command was told to end, by another signal than Ctrl-C's.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextlib.contextmanager
def stopping_on_signals() -> Iterator[None]:
    """Raises `Stopped` when the system or a scheduler ends the process during the block.

    A signal that is ignored, as under `nohup`, stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    taken = [number for number in _SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # once is enough: what is at hand is being put away
    raise Stopped(number)


@contextlib.contextmanager
def resumable(program: str, out: str) -> Iterator[None]:
    """Says how to go on when what makes a run is interrupted.

    Args:
        program: the command's name.
        out: the run's folder.
    """
    try:
        yield
    except KeyboardInterrupt:
        if Run.is_at(out):
            kept = f"{Path(out)} keeps every finished epoch and result"
            print(f"\n{program}: {kept}; --resume goes on", file=sys.stderr)
        raise
