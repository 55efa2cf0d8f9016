"""Signals that end a process: at once, or as soon as what is at hand has been saved."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGXCPU") if hasattr(signal, name)
)


class Stopped(KeyboardInterrupt):
    """The command was told to end, by another signal than Ctrl-C's.

    Args:
        number: of the signal.
        kept: what of a training is on disk, in words; None says nothing of it (default None).
    """

    def __init__(self, number: int, kept: str | None = None) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number
        self.kept = kept


class _Signals:
    """What has come, and whether it waits."""

    waits = False
    number: int | None = None


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


def listen_again() -> None:
    """Takes back what TensorFlow has taken: its workers keep SIGTERM to themselves."""
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            if signal.getsignal(number) is _stop:
                signal.signal(number, _stop)


@contextlib.contextmanager
def saving_first() -> Iterator[None]:
    """Lets a signal wait in the block, from `let_wait` on, until `told` is asked.

    Raises:
        Stopped: at the end of the block, for a signal that nobody has asked for.
    """
    try:
        yield
        if _Signals.number is not None:
            raise Stopped(_Signals.number)
    finally:
        _Signals.waits, _Signals.number = False, None


def let_wait() -> None:
    """Says that there is something to save before the process ends."""
    _Signals.waits = True


def told() -> int | None:
    """Returns the signal that waits; None without."""
    return _Signals.number


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # once is enough: what is at hand is being put away
    if not _Signals.waits:
        raise Stopped(number)
    _Signals.number = number
