"""Registries: the things of one kind by name, built-in ones imported when first asked for."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

from robustcls._validation import InputError, check_choice

T = TypeVar("T")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


class Registry(Mapping[str, T], Generic[T]):
    """The classes or functions of one kind by name: the built-in ones, then a user's own.

    Whoever lists the kind reads its registry, so what is added is in the command line, the
    reports and the contract tests at once. Names are listed without importing anything.

    Args:
        kind: what they are, for messages, for example "attack".
        built_in: "module:attribute" by name.
        reserved: names that mean something else where names of this kind are given.

    Attributes:
        built_in: the names that come with the package.
    """

    def __init__(
        self, kind: str, built_in: Mapping[str, str], *, reserved: tuple[str, ...] = ()
    ) -> None:
        self.kind, self._reserved = kind, reserved
        self.built_in = frozenset(built_in)
        self._places = dict(built_in)
        self._found: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        if name not in self._found:
            module, _, attribute = self._places[name].partition(":")
            found = getattr(importlib.import_module(module), attribute)
            # Its module may have added it, wrapped in more than the attribute.
            self._found.setdefault(name, found)
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def find(self, name: str, argument: str | None = None) -> T:
        """Returns what is called `name`.

        Args:
            name: of the registry.
            argument: what the caller calls the name, for the message; the kind when None.

        Raises:
            InputError: there is nothing of that name; the message lists all and the nearest.
        """
        return self[check_choice(argument or self.kind, name, self)]

    def add(self, name: str, thing: T, defined: Any = None) -> T:
        """Adds a thing, which its definition did not need to know about any other.

        Args:
            name: lower-case letters, digits, "_" and "-".
            thing: a class, function or description.
            defined: the class or function whose module and name tell where `thing` was defined;
                `thing` itself when None. Defined there again, it takes the place of the former.

        Returns:
            `thing`.

        Raises:
            InputError: the name is taken by something defined elsewhere, or is no name.
        """
        if not _NAME.fullmatch(name):
            raise InputError(
                f"name of the {self.kind} must be lower-case letters, digits, '_' and '-'; "
                f"received {name!r}."
            )
        origin: Any = thing if defined is None else defined
        place = f"{origin.__module__}:{origin.__qualname__}"
        taken = self._places.get(name, "a setting" if name in self._reserved else place)
        if taken != place:
            raise InputError(
                f"name of the {self.kind} must be new; {name!r} is {taken.replace(':', '.')} "
                f"already, received {place.replace(':', '.')}."
            )
        self._places[name] = place
        self._found[name] = thing
        return thing
