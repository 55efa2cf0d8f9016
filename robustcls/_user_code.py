"""Code of users that this package calls: what it raises as one line that names it."""

from __future__ import annotations

import contextlib
import inspect
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from robustcls._validation import InputError

_MOST = 300


@contextlib.contextmanager
def called(what: str, code: Any) -> Iterator[None]:
    """Makes what a user's code raises an `InputError`, with the error as its cause.

    What this package's own code raises, and what is an `InputError` already, goes through.

    Args:
        what: what was called, for example "attack 'nudge'".
        code: its class or function.

    Raises:
        InputError: the code raises; the message names the code, the error and its line.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # whatever the code of a user raises
        code = code if hasattr(code, "__qualname__") else type(code)
        if code.__module__.split(".")[0] in ("robustcls", "anomaly"):
            raise
        file = None
        with contextlib.suppress(TypeError, OSError):  # what was typed into a prompt has no file
            file = inspect.getsourcefile(inspect.unwrap(code))
        place = f"{code.__module__}.{code.__qualname__}"
        raise InputError(f"{what} ({place}) failed: {in_one_line(error, file)}") from error


def in_one_line(error: BaseException, file: str | None) -> str:
    """Returns what an error says, and the last line of a user's file that it went through.

    Args:
        error: as it was caught.
        file: the user's; None where there is none.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    words = " ".join(lines)
    if lines[:1] == ["in user code:"]:  # TensorFlow's, around what a traced function raised
        words = lines[-1]
    elif not isinstance(error, InputError):
        words = f"{type(error).__name__}: {words}"
    lines_of_file = [line for name, line in places(error) if name == file]
    if file is None or not lines_of_file:
        return words[:_MOST]
    return f"{words[:_MOST]} ({Path(file).name}, line {lines_of_file[-1]})"


def places(error: BaseException) -> list[tuple[str, int]]:
    """The files and lines that an error went through, the innermost last."""
    # TensorFlow runs a translation of what it traces, and tells the lines of the original.
    told = re.findall(r'File "(.*?)", line (\d+)', str(error))
    frames = traceback.extract_tb(error.__traceback__)
    return [(frame.filename, frame.lineno or 0) for frame in frames] + [
        (name, int(line)) for name, line in told
    ]
