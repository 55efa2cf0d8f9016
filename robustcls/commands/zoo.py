"""`robustcls zoo`: robust models inside the package, and in folders like it."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

from jsonargparse import Namespace

from robustcls._command_line import Runners, first_line, function_parser, new_parser


def add_commands(commands: Any) -> Runners:
    """Adds `zoo`; returns what runs it."""
    zoo = new_parser("List, show or measure the robust models of a zoo, or enter one.")
    commands.add_subcommand("zoo", zoo, help=zoo.description)
    topics = zoo.add_subcommands(metavar="COMMAND")
    for name, function in _COMMANDS.items():
        made = _entry_parser() if function is _enter else function_parser(function)
        topics.add_subcommand(name, made, help=first_line(made.description))
    return {"zoo": _run}


def _entry_parser() -> Any:
    made = new_parser((_enter.__doc__ or "").partition("\n\n    Args:")[0])
    made.add_argument("model", type=str, help="a .keras file")
    made.add_function_arguments(_enter, skip={"model"}, as_positional=False, as_group=False)
    return made


def _run(values: Namespace) -> None:
    name = values.subcommand
    _COMMANDS[name](**(values[name] or Namespace()).as_dict())


def _list(folder: str | None = None) -> None:
    """List the models: what `robustcls.load_pretrained` takes, and their accuracies.

    Args:
        folder: of the zoo; the package's own when not given.
    """
    from rich.console import Console
    from rich.table import Table

    from robustcls.models.zoo.cards import names, read_card

    table = Table(title="Robust models, accuracy in %")
    for column in ("name", "data", "ball", "clean", "certified", "autoattack"):
        table.add_column(column, overflow="fold")
    for name in names(folder):
        card = read_card(name, folder)
        cells = [
            f"{100 * card.results[key]:.2f}" if key in card.results else "–"
            for key in ("clean", "certified", "autoattack")
        ]
        table.add_row(name, card.data, card.ball, *cells)
    Console().print(table)


def _show(name: str, folder: str | None = None) -> None:
    """Show the card of a model: how it was made and what it reaches.

    Args:
        name: as `robustcls zoo list` prints it.
        folder: of the zoo; the package's own when not given.
    """
    from robustcls.models.zoo.cards import read_card

    for key, value in dataclasses.asdict(read_card(name, folder)).items():
        print(f"{key}: {value}")


def _evaluate(name: str, folder: str | None = None, seed: int = 0) -> None:
    """Measure a model again, from its file, beside what its card says.

    Args:
        name: as `robustcls zoo list` prints it.
        folder: of the zoo; the package's own when not given.
        seed: of the attacks.
    """
    from rich.console import Console
    from rich.table import Table

    from robustcls.evaluation.zoo import evaluate_card
    from robustcls.models.zoo.cards import read_card

    card = read_card(name, folder)
    table = Table(title=f"{name}, {card.ball}: accuracy in %, 95 % interval")
    for column in ("", "measured", "images", "card"):
        table.add_column(column)
    for key, found in evaluate_card(card, seed=seed, progress=sys.stderr.isatty()).items():
        table.add_row(
            key,
            f"{100 * found.accuracy:.2f} [{100 * found.low:.2f}, {100 * found.high:.2f}]",
            str(found.count),
            f"{100 * card.results[key]:.2f}" if key in card.results else "–",
        )
    Console().print(table)


def _enter(
    model: str,
    name: str,
    data: str,
    epsilon: float,
    norm: str = "inf",
    input_range: tuple[float, float] | None = None,
    skip_bad_images: bool = False,
    limit: int | None = None,
    objective: str = "not told",
    command: str = "not told",
    machine: str = "not told",
    licence: str = "not told",
    folder: str = "zoo",
    seed: int = 0,
) -> None:
    """Measure a model of yours as those of the package are, and put it into a zoo with its card.

    Args:
        model: a .keras file.
        name: what it is to be called.
        data: the images it was trained on, as for training; those of the test split count.
        epsilon: radius of the ball for images in [0, 1], for example 8/255.
        norm: of the ball, inf or 2.
        input_range: what the model wants 0 and 1 to be, for example 0 255.
        skip_bad_images: leave unreadable files of --data out and name them in the card.
        limit: test images, drawn; all when not given.
        objective: what it was trained with, in words.
        command: what made it.
        machine: where, and how long it took.
        licence: of the weights.
        folder: of the zoo; made when it is not there.
        seed: of the attacks.
    """
    from robustcls.evaluation.zoo import enter

    given = {key: value for key, value in locals().items() if key != "enter"}
    card = enter(given.pop("model"), given.pop("name"), progress=sys.stderr.isatty(), **given)
    _show(card.name, folder)


_COMMANDS: dict[str, Callable[..., None]] = {
    "list": _list,
    "show": _show,
    "evaluate": _evaluate,
    "enter": _enter,
}
