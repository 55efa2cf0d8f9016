"""The `robustcls` command: argument parsing and printing, no logic.

TensorFlow is imported by the commands that need it, so `--help` and wrong arguments answer at
once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from robustcls._command_line import (
    CommandParser,
    Runners,
    command_parser,
    import_named_modules,
    import_tensorflow,
    naming_flags,
    run_command,
    with_underscores,
)
from robustcls.commands import (
    data,
    evaluation,
    explanation,
    familiarity,
    serving,
    training,
    zoo,
)

_TOPICS = (data, training, evaluation, familiarity, serving, explanation, zoo)


def parser() -> tuple[CommandParser, Runners]:
    """Returns the parser of the whole command, and what runs each subcommand."""
    top = command_parser(
        "robustcls", "Train and test image classifiers that survive noise and attacks."
    )
    commands = top.add_subcommands(metavar="COMMAND")
    runners: Runners = {}
    for topic in _TOPICS:
        runners |= topic.add_commands(commands)
    return top, runners


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; wrong input is one line on standard error and status 2."""
    given = with_underscores(sys.argv[1:] if arguments is None else arguments)
    run_command("robustcls", lambda: _run(given))


def _run(arguments: Sequence[str]) -> None:
    given = import_named_modules(arguments)
    top, runners = parser()
    values = top.instantiate(top.parse_args(given))
    import_tensorflow()
    with naming_flags(top, values):
        runners[values.subcommand](values[values.subcommand])
