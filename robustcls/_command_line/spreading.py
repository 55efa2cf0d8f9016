"""Flags of commands whose work can be spread: over shards, or over the actors of an engine."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from robustcls._command_line.modules import import_named_modules, named_modules
from robustcls._command_line.parser import CommandParser
from robustcls._validation import InputError, check_choice
from robustcls.distribution.ray_cluster import require_ray
from robustcls.distribution.ray_engine import measure_on_ray
from robustcls.distribution.shards import Shard, measure_shard
from robustcls.distribution.work import Work

ENGINES = ("ray",)
_NAMES = ("shards", "engine", "address", "actors", "threads")


def add_spreading_arguments(made: CommandParser) -> None:
    """Adds the arguments of a command whose work can be spread.

    Args:
        made: gets them.
    """
    made.add_argument(
        "--shards",
        type=str | None,
        help="measure one share alone, such as 2/5 for the second of five; `merge` joins them",
    )
    made.add_argument(
        "--engine",
        type=str | None,
        help="ray: share the work among the actors of a Ray cluster (extra `ray`)",
    )
    made.add_argument(
        "--address",
        type=str | None,
        help="of the cluster, host:port or auto; one is started here when left out",
    )
    made.add_argument(
        "--actors", type=int | None, help="at most; as many as there is room for when left out"
    )
    made.add_argument(
        "--threads", type=int | None, help="of each actor, in TensorFlow; 1 when left out"
    )


@dataclass(frozen=True)
class Spreading:
    """How the work of a command is spread.

    Attributes:
        shard: the one share to measure; None with an engine.
        address: of a Ray cluster, or None.
        actors: at most that many, or None.
        threads: of each actor.
    """

    shard: Shard | None
    address: str | None = None
    actors: int | None = None
    threads: int = 1

    def measure(self, work: Work, open_work: Callable[[], Work], *, resume: bool) -> None:
        """Measures the share, or everything on the engine.

        Args:
            work: of the command.
            open_work: returns it in another process; can be pickled.
            resume: keep what is there already; shards always do.

        Raises:
            InputError: as the pieces, and as `measure_on_ray`.
        """
        if self.shard is not None:
            for title in measure_shard(work, self.shard, progress=sys.stderr.isatty()):
                print(title)
            return
        if not resume:
            work.results.clear()
        measure_on_ray(
            work,
            functools.partial(_open, list(named_modules), os.getcwd(), open_work),
            address=self.address,
            actors=self.actors,
            threads=self.threads,
            tell=functools.partial(print, flush=True),
        )


def take_spreading(flags: dict[str, Any]) -> Spreading | None:
    """Takes the arguments of `add_spreading_arguments` out of all; None for work in one process.

    Args:
        flags: of the command.

    Raises:
        InputError: they do not go together, Ray is not installed, or no cluster answers.
    """
    shards, engine, address, actors, threads = (flags.pop(name) for name in _NAMES)
    for name, value in {"address": address, "actors": actors, "threads": threads}.items():
        if value is not None and engine is None:
            raise InputError(f"{name} must come with --engine ray; received {value!r} alone.")
    for name, value in {"actors": actors, "threads": threads}.items():
        if value is not None and value < 1:
            raise InputError(f"{name} must be at least 1; received {value}.")
    if engine is not None:
        check_choice("engine", engine, ENGINES)
        if shards is not None:
            raise InputError("shards and engine exclude each other; received both.")
        require_ray(address)
        return Spreading(None, address, actors, threads or 1)
    return None if shards is None else Spreading(Shard.parse(shards))


def _open(modules: Sequence[str], folder: str, open_work: Callable[[], Work]) -> Work:
    """Opens work in an actor as it was opened here: what `--import` named, from the same folder."""
    try:
        os.chdir(folder)
    except OSError as error:
        raise InputError(
            f"the folder {folder} must be there on every machine of the cluster ({error.strerror})."
        ) from None
    import_named_modules([word for name in modules for word in ("--import", name)])
    return open_work()
