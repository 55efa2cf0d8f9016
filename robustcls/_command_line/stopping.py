"""What is said of a run whose making is interrupted."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from robustcls.runs import Run


@contextlib.contextmanager
def resumable(program: str, out: str) -> Iterator[None]:
    """Says how to go on when what makes a run is interrupted.

    Args:
        program: the command's name.
        out: the run's folder.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if Run.is_at(out):
            what = getattr(interrupt, "kept", None) or "every finished epoch and result"
            print(f"\n{program}: {Path(out)} keeps {what}; --resume goes on", file=sys.stderr)
        raise
