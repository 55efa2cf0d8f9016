"""How a command runs: one line and status 2 for wrong input, a quiet TensorFlow."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from jsonargparse import ArgumentError

from robustcls._memory import in_a_line
from robustcls._stopping import Stopped, stopping_on_signals
from robustcls._user_code import in_one_line, places
from robustcls._validation import InputError

#: The files, and folders of packages, that `--import` named.
named_files: set[str] = set()


def with_underscores(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments with `--normal-class` spelled `--normal_class`, as YAML keys are."""
    spelled = []
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if flag.startswith("--"):
            flag = "--" + flag[2:].replace("-", "_")
        spelled.append(flag + equals + value)
    return spelled


def run_command(program: str, command: Callable[[], None]) -> None:
    """Calls `command`; wrong input is one line on standard error and status 2.

    So is what the system refuses: memory, room on a disk, a folder that cannot be written. A signal
    that ends the process is a line and 128 + its number.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with stopping_on_signals():
            command()
    except (ArgumentError, InputError) as error:
        line = " ".join(part.strip() for part in str(error).splitlines() if part.strip())
        print(f"{program}: error: {line}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # who read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        file = next((name for name, _ in reversed(places(error)) if _is_users(name)), None)
        told = f"what --import named failed: {in_one_line(error, file)}" if file else None
        told = told or in_a_line(error)
        if told is None:
            raise
        print(f"{program}: error: {told}", file=sys.stderr)
        sys.exit(2)
    except Stopped as stopped:
        print(f"{program}: ended by {stopped}", file=sys.stderr)
        sys.exit(128 + stopped.number)
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        sys.exit(130)


def _is_users(file: str) -> bool:
    return any(file == named or Path(named) in Path(file).parents for named in named_files)


def import_tensorflow() -> None:
    """Imports TensorFlow, which is quiet since this package imports it."""
    import tensorflow as tf

    del tf


def epoch_verbosity() -> int:
    """Returns how a training shows its epochs: 1 (bars) on a terminal, else 2 (lines)."""
    return 1 if sys.stdout.isatty() else 2
