"""Parsers with one syntax for lists, data, fractions and switches."""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import yaml
from jsonargparse import (
    ArgumentError,
    ArgumentParser,
    DefaultHelpFormatter,
    Namespace,
    get_loader,
    set_parsing_settings,
)

from robustcls._command_line.spelling import mend_settings, spell
from robustcls._validation import InputError
from robustcls.reports.evaluations import DEFAULT

#: By subcommand, what its arguments are given to.
Runners = dict[str, Callable[[Namespace], None]]

SYNTAX = (
    "Lists are given as a b, a,b or [a,b]; numbers may be fractions like 8/255; switches stand "
    "alone or with true or false; --data takes a name or a folder. Flags are written out, with - "
    "or _ between their words."
)


class CommandParser(ArgumentParser):
    """A parser that takes each kind of value in all its spellings, in flags and in YAML files.

    It raises `InputError` where argparse would exit.

    Attributes:
        kept_settings: returns the settings of a stopped run from its folder; with `--resume` they
            are the defaults. None for a command that has none.
        kept_in: the argument that names the folder.
        kept_beside: where in it is what `--name` names; None for a command without.
    """

    kept_settings: Callable[[str], Mapping[str, Any]] | None = None
    kept_in = "out"
    kept_beside: str | None = None

    def parse_args(self, args: Sequence[str], *more: Any, **options: Any) -> Namespace:  # type: ignore[override]
        """Parses arguments, all of which are strings."""
        spelled = spell(self, args)
        if {"--resume", "--overwrite"} <= set(spelled):
            raise InputError("resume and overwrite exclude each other; received both.")
        folder = _value_of(spelled, self.kept_in) if "--resume" in spelled else None
        configured = any(word.startswith("--config") for word in spelled)
        lost = "--resume" in spelled and folder is None and not configured
        if lost and self.kept_settings is not None and self.kept_in == "out":
            raise InputError("--resume must come with --out, the folder of the run to go on with.")
        name = _value_of(spelled, "name") if self.kept_beside else None
        if folder is not None and name not in (None, DEFAULT):
            folder = f"{folder}/{self.kept_beside}/{name}"
        if folder is not None and self.kept_settings is not None:
            try:
                self._take_settings(self.kept_settings(folder))
            except InputError:
                # With settings of its own, a run that is not there yet begins.
                if len(spelled) == len([folder, "--resume"]):
                    raise
        try:
            return super().parse_args(spelled, *more, **options)
        except ArgumentError as error:
            raise InputError(self._plain(str(error))) from None

    def parse_string(self, content: str, path: Any = "", *more: Any, **options: Any) -> Namespace:
        """Parses the text of a YAML file."""
        try:
            settings = get_loader("yaml")(content)
        except yaml.YAMLError as error:
            words = " ".join(str(error).split())
            raise InputError(f"config must be YAML; {path}: {words}.") from None
        if not isinstance(settings, dict):
            raise InputError(f"config must hold settings like epochs: 3; {path} holds none.")
        try:
            content = yaml.safe_dump(mend_settings(self, settings))
        except InputError as error:
            raise InputError(f"{path}: {error}" if path else str(error)) from None
        return super().parse_string(content, path, *more, **options)

    def _plain(self, message: str) -> str:
        """Returns a message of jsonargparse in the words of the command line."""
        parsers = {"": self}
        if self._subcommands_action is not None:
            parsers |= self._subcommands_action.choices
            for name in self._subcommands_action.choices:
                message = re.sub(rf"(?<![\w.]){re.escape(name)}\.(?=[a-z])", "", message)
        missing = re.search(r"the following arguments are required: (.*)", message)
        if missing:
            flags = {f for p in parsers.values() for a in p._actions for f in a.option_strings}
            words = [f"--{n}" if f"--{n}" in flags else n for n in missing[1].split(", ")]
            return f"{', '.join(words)} must be given; see --help."
        return re.sub(r'Parser key "([^"]*)": ', r"\1: ", message)

    def _take_settings(self, settings: Mapping[str, Any]) -> None:
        for action in self._actions:
            value: Any = settings
            for key in action.dest.split("."):
                value = value.get(key, settings) if isinstance(value, Mapping) else settings
            if value is not settings:
                # Stock dictionaries, which YAML takes.
                self.set_defaults({action.dest: json.loads(json.dumps(value))})


class _HelpFormatter(DefaultHelpFormatter):
    """Adds types and defaults, but to arguments whose docstring has them, with the range."""

    def _get_help_string(self, action: Any) -> str:
        text = " ".join((action.help or "").split())
        if re.search(r"\(.*default .*\)\.$", text):
            return text
        return super()._get_help_string(action)


def new_parser(description: str, **options: Any) -> CommandParser:
    """Returns the parser of one command."""
    return CommandParser(
        description=description,
        exit_on_error=False,
        allow_abbrev=False,
        formatter_class=_HelpFormatter,
        **{"epilog": SYNTAX} | options,
    )


def command_parser(program: str, description: str) -> CommandParser:
    """Returns the parser of a whole command line, which names what all its commands take."""
    set_parsing_settings(add_print_completion_argument=True)
    made = new_parser(
        description,
        prog=program,
        version=importlib.metadata.version("robustcls"),
        epilog=f"{SYNTAX} Completion in the shell: pip install shtab, then "
        f'eval "$({program} --print_completion shtab-bash)", or shtab-zsh.',
    )
    made.add_argument(
        "--import",
        metavar="MODULE",
        type=str | None,
        help="import a module first, with attacks and the like of your own; may be repeated",
    )
    return made


def function_parser(function: Callable[..., None]) -> CommandParser:
    """Returns the parser of a command: its arguments, their types and help are the function's.

    Args:
        function: what the command calls.
    """
    made = new_parser((function.__doc__ or "").partition("\n\n    Args:")[0])
    made.add_function_arguments(function, as_positional=True, as_group=False)
    return made


def add_function_commands(commands: Any, functions: Mapping[str, Callable[..., None]]) -> Runners:
    """Adds to `commands` a subcommand for each function; returns what runs them."""

    def runner(function: Callable[..., None]) -> Callable[[Namespace], None]:
        return lambda values: function(**values.as_dict())

    for name, function in functions.items():
        made = function_parser(function)
        commands.add_subcommand(name, made, help=first_line(made.description))
    return {name: runner(function) for name, function in functions.items()}


def add_skipping_argument(made: CommandParser) -> None:
    """Adds the flag of commands that read image files which no run knows.

    Args:
        made: gets it.
    """
    made.add_argument(
        "--skip_bad_images",
        action="store_true",
        help="leave unreadable files out and list them; a run does as it was trained",
    )


def add_tracker_argument(made: CommandParser) -> None:
    """Adds the flag of commands that train.

    Args:
        made: gets it.
    """
    made.add_argument(
        "--tracker",
        type=str | None,
        help="tensorboard (always in the run), or mlflow or wandb where installed: keeps a record "
        "of each training through its own callback",
    )


def add_run_arguments(
    made: CommandParser, kept_settings: Callable[[str], Mapping[str, Any]]
) -> None:
    """Adds the arguments of a command that makes a run folder.

    Args:
        made: gets them.
        kept_settings: returns the settings of the run in a folder, which `--resume` takes.
    """
    made.kept_settings = kept_settings
    made.add_argument("--out", type=str, required=True, help="the run folder to make")
    made.add_argument(
        "--resume",
        action="store_true",
        help="go on with the interrupted run in --out; its settings need not be given again",
    )
    made.add_argument("--overwrite", action="store_true", help="delete the run that is in --out")


def add_distribution_arguments(made: CommandParser) -> None:
    """Adds the arguments of a command that can train on several devices.

    Args:
        made: gets them.
    """
    made.add_argument(
        "--distribute",
        type=str | None,
        help="mirrored: on all devices of this machine; multi_worker: on all workers that "
        "TF_CONFIG names, each started with the same command",
    )
    made.add_argument(
        "--devices",
        type=list[str],
        default=[],
        help="which devices of this machine, such as GPU:0; all GPUs, or the CPU, when left out",
    )


def list_names(made: CommandParser, **names: Iterable[str]) -> None:
    """Ends the description of a command with the names it takes, `Attacks=ATTACKS` for example."""
    lines = (f"{title}: {', '.join(known)}." for title, known in names.items())
    made.description = "\n\n".join([made.description or "", *lines])


def first_line(text: str | None) -> str:
    """Returns what `--help` of the command above shows of a command."""
    return (text or "").partition("\n")[0]


def _value_of(spelled: Sequence[str], name: str) -> str | None:
    """Returns what `--NAME=VALUE` gives, or for a positional argument the first word."""
    for argument in spelled:
        flag, equals, value = argument.partition("=")
        if flag == f"--{name}" and equals:
            return value
    words = [argument for argument in spelled if not argument.startswith("--")]
    return words[0] if name == "run" and words else None
