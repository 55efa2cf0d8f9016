"""What the command lines of both packages share: parsers, flags, exits, a quiet TensorFlow."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, DefaultHelpFormatter, Namespace

from robustcls._validation import InputError

#: By subcommand, what its arguments are given to.
Runners = dict[str, Callable[[Namespace], None]]


def new_parser(description: str) -> ArgumentParser:
    """Returns a parser that raises `ArgumentError` where argparse would exit."""
    return ArgumentParser(
        description=description, exit_on_error=False, formatter_class=_HelpFormatter
    )


class _HelpFormatter(DefaultHelpFormatter):
    """Adds types and defaults, but to arguments whose docstring has them, with the range."""

    def _get_help_string(self, action: Any) -> str:
        if re.search(r"\(.*default .*\)\.?$", action.help or ""):
            return action.help
        return super()._get_help_string(action)


def command_parser(description: str) -> ArgumentParser:
    """Returns the parser of a whole command line, which names what all its commands take."""
    made = new_parser(description)
    made.add_argument(
        "--import",
        metavar="MODULE",
        type=str | None,
        help="import a module first, with attacks and the like of your own; may be repeated",
    )
    return made


def function_parser(function: Callable[..., None], *, lists: Sequence[str] = ()) -> ArgumentParser:
    """Returns the parser of a command: its arguments, their types and help are the function's.

    Args:
        function: what the command calls.
        lists: its arguments that are lists of words, `--images a.png b.png`; empty by default.
    """
    made = new_parser((function.__doc__ or "").partition("\n\n    Args:")[0])
    made.add_function_arguments(function, as_positional=True, as_group=False, skip=set(lists))
    for name in lists:
        words = re.search(rf"^        {name}: (.+)$", function.__doc__ or "", re.MULTILINE)
        made.add_argument(
            f"--{name}", nargs="+", type=str, default=[], help=words[1] if words else None
        )
    return made


def add_function_commands(commands: Any, functions: Mapping[str, Callable[..., None]]) -> Runners:
    """Adds to `commands` a subcommand for each function; returns what runs them."""

    def runner(function: Callable[..., None]) -> Callable[[Namespace], None]:
        return lambda values: function(**values.as_dict())

    for name, function in functions.items():
        made = function_parser(function)
        commands.add_subcommand(name, made, help=first_line(made.description))
    return {name: runner(function) for name, function in functions.items()}


def add_run_arguments(made: ArgumentParser) -> None:
    """Adds the arguments of a command that makes a run folder."""
    made.add_argument("--out", type=str, required=True, help="the run folder to make")
    made.add_argument(
        "--resume", action="store_true", help="go on with an interrupted run in --out"
    )
    made.add_argument("--overwrite", action="store_true", help="delete the run that is in --out")


def first_line(text: str | None) -> str:
    """Returns what `--help` of the command above shows of a command."""
    return (text or "").partition("\n")[0]


def with_underscores(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments with `--normal-class` spelled `--normal_class`, as YAML keys are."""
    spelled = []
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if flag.startswith("--"):
            flag = "--" + flag[2:].replace("-", "_")
        spelled.append(flag + equals + value)
    return spelled


def import_named_modules(arguments: Sequence[str]) -> list[str]:
    """Imports the modules that `--import MODULE` names; returns the other arguments.

    The flag may stand anywhere and more than once. Modules are looked for among the installed
    ones, then in the current folder. What they define, an attack for example, is registered by
    the time that the command's own arguments are read.

    Raises:
        InputError: there is no such module, or it fails.
    """
    names, left = [], []
    given = iter(arguments)
    for argument in given:
        flag, equals, value = argument.partition("=")
        if flag == "--import":
            names.append(value if equals else next(given, ""))
        else:
            left.append(argument)
    for name in names:
        _import_named(name)
    return left


def _import_named(name: str) -> None:
    if not all(part.isidentifier() for part in name.split(".")) or name.endswith(".py"):
        hint = f" Did you mean {Path(name).stem}?" if name.endswith(".py") else ""
        raise InputError(f"--import must be the name of a module; received {name!r}.{hint}")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)
    importlib.invalidate_caches()
    spec = None
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None:
            import_tensorflow()
            importlib.import_module(name)
    except (Exception, SystemExit) as error:
        # Whatever the code of a user raises.
        words = " ".join(str(error).split())
        if not isinstance(error, InputError):
            words = f"{type(error).__name__}: {words}"
        lines = [
            f" ({Path(frame.filename).name}, line {frame.lineno})"
            for frame in traceback.extract_tb(error.__traceback__)
            if spec is not None and frame.filename == spec.origin
        ]
        raise InputError(f"--import {name} failed: {words}{lines[-1] if lines else ''}") from error
    if spec is None:
        raise InputError(
            "--import must be a module that is installed or lies in the current folder; "
            f"received {name!r}."
        )


def run_command(program: str, command: Callable[[], None]) -> None:
    """Calls `command`; wrong input is one line on standard error and status 2."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        command()
    except (ArgumentError, InputError) as error:
        line = " ".join(part.strip() for part in str(error).splitlines() if part.strip())
        print(f"{program}: error: {line}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        sys.exit(130)


def import_tensorflow() -> None:
    """Imports TensorFlow without the banner that its C++ writes whatever the log level."""
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") != "3":
        return
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with open(os.devnull, "w") as null:
            os.dup2(null.fileno(), 2)
        import tensorflow as tf

        del tf
    finally:
        os.dup2(saved, 2)
        os.close(saved)
