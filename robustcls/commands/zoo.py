"""`robustcls zoo`: robust models inside the package."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from jsonargparse import Namespace

from robustcls._command_line import Runners, first_line, function_parser, new_parser


def add_commands(commands: Any) -> Runners:
    """Adds `zoo`; returns what runs it."""
    zoo = new_parser("List, show or measure the robust models inside the package.")
    commands.add_subcommand("zoo", zoo, help=zoo.description)
    topics = zoo.add_subcommands(metavar="COMMAND")
    for name, function in _COMMANDS.items():
        made = function_parser(function)
        topics.add_subcommand(name, made, help=first_line(made.description))
    return {"zoo": _run}


def _run(values: Namespace) -> None:
    name = values.subcommand
    _COMMANDS[name](**(values[name] or Namespace()).as_dict())


def _list() -> None:
    """List the models: what `robustcls.load_pretrained` takes, and their accuracies."""
    from rich.console import Console
    from rich.table import Table

    from robustcls.models.zoo.cards import names, read_card

    table = Table(title="Robust models, accuracy in %")
    for column in ("name", "data", "ball", "clean", "certified", "autoattack"):
        table.add_column(column, overflow="fold")
    for name in names():
        card = read_card(name)
        cells = [
            f"{100 * card.results[key]:.2f}" if key in card.results else "–"
            for key in ("clean", "certified", "autoattack")
        ]
        table.add_row(name, card.data, _ball(card), *cells)
    Console().print(table)


def _show(name: str) -> None:
    """Show the card of a model: how it was made and what it reaches.

    Args:
        name: as `robustcls zoo list` prints it.
    """
    from robustcls.models.zoo.cards import read_card

    for key, value in dataclasses.asdict(read_card(name)).items():
        print(f"{key}: {value}")


def _evaluate(name: str, seed: int = 0) -> None:
    """Measure a model again, from its file, beside what its card says.

    Args:
        name: as `robustcls zoo list` prints it.
        seed: of the attacks.
    """
    from rich.console import Console
    from rich.table import Table

    from robustcls.evaluation.zoo import evaluate_card
    from robustcls.models.zoo.cards import read_card

    card = read_card(name)
    table = Table(title=f"{name}, {_ball(card)}: accuracy in %, 95 % interval")
    for column in ("", "measured", "images", "card"):
        table.add_column(column)
    for key, found in evaluate_card(card, seed=seed).items():
        table.add_row(
            key,
            f"{100 * found.accuracy:.2f} [{100 * found.low:.2f}, {100 * found.high:.2f}]",
            str(found.count),
            f"{100 * card.results[key]:.2f}" if key in card.results else "–",
        )
    Console().print(table)


def _ball(card: Any) -> str:
    return f"{'L-infinity' if card.norm == 'inf' else 'L2'} {card.epsilon:g}"


_COMMANDS: dict[str, Callable[..., None]] = {"list": _list, "show": _show, "evaluate": _evaluate}
