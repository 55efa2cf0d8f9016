"""Messages name arguments as Python has them; on the command line they name flags."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from jsonargparse import ArgumentParser, Namespace

from robustcls._validation import InputError

# An argument with its value, in a message: input_range=(0, 255), output='scores'.
_ASSIGNED = r"(?<![\w.(\[{{/-])({names})=(\([^()]*\)|\[[^\[\]]*\]|'[^']*'|\.{{3}}|[\w.+-]*\w)"
# One without its value: of several words, or any word could be one.
_NAMED = r"(?<![\w.'\"/\\-])({names})(?![\w='\"/-]|\.\w)"


@contextmanager
def naming_flags(parser: ArgumentParser, values: Namespace) -> Iterator[None]:
    """Lets an `InputError` say what to type, where it says what to pass.

    Args:
        parser: of the whole command line.
        values: what it parsed, which says the command.

    Raises:
        InputError: as raised within, with flags.
    """
    try:
        yield
    except InputError as error:
        raise InputError(in_flags(str(error), _flags_of(parser, values))) from error


def in_flags(message: str, flags: Mapping[str, str]) -> str:
    """Returns a message whose hints are flags: `--input_range 0 255` for `input_range=(0, 255)`.

    Args:
        message: of an error.
        flags: the flag of each argument that has one.
    """
    if not flags:
        return message

    def typed(found: re.Match[str]) -> str:
        return f"{flags[found[1]]} {_words(found[2])}".rstrip()

    message = re.sub(_ASSIGNED.format(names="|".join(map(re.escape, flags))), typed, message)
    several = "|".join(re.escape(name) for name in flags if "_" in name)
    if not several:
        return message
    return re.sub(_NAMED.format(names=several), lambda found: flags[found[1]], message)


def _words(value: str) -> str:
    """Returns a Python value as it is typed; nothing for a switch that is turned on."""
    try:
        parsed = ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return value
    if isinstance(parsed, tuple | list):
        return " ".join(map(str, parsed))
    if parsed is True:
        return ""
    return {"False": "false", "None": "null"}.get(str(parsed), str(parsed))


def _flags_of(parser: ArgumentParser, values: Namespace) -> dict[str, str]:
    """Returns the flags of the command that was given, by the names of their arguments."""
    while parser._subcommands_action is not None:
        parser = parser._subcommands_action.choices[values.subcommand]
        values = values[values.subcommand] or Namespace()
    found: dict[str, list[str]] = {}
    for option in parser._option_string_actions:
        if option.startswith("--"):
            found.setdefault(option[2:].rpartition(".")[2], []).append(option)
    exact = {name: f"--{name}" for name, options in found.items() if f"--{name}" in options}
    return {name: options[0] for name, options in found.items() if len(options) == 1} | exact
