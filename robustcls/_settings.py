"""The ranges of settings, declared once, in the type hint of a field or an argument.

    steps: PositiveInt = 20
    relativity: Annotated[float, Range(minimum=0, maximum=1)] = 0.0

A dataclass calls `check_settings(self)` in `__post_init__`; a function or an `__init__` is
decorated with `checked`. Docstrings repeat the words of a range, where `--help` reads them.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from robustcls._validation import (
    InputError,
    check_choice,
    check_epsilon,
    check_flag,
    check_number,
)

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Range:
    """Finite numbers within bounds; whole ones where the hint says `int`.

    Args:
        minimum: inclusive lower bound; None is none.
        maximum: inclusive upper bound.
        above: exclusive lower bound.
        below: exclusive upper bound.
    """

    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None

    def check(self, argument: str, value: Any, kind: type, beside: Mapping[str, Any]) -> None:
        """Raises `InputError` when `value` is out of range.

        Args:
            argument: its name.
            value: what came.
            kind: the type that the hint names.
            beside: the values of all arguments, by name.
        """
        del beside
        check_number(argument, value, integer=kind is int, **vars(self))

    def words(self, kind: type) -> str:
        """How a docstring says it: `int >= 1`, `float in (0, 1]`."""
        low = self.minimum if self.above is None else self.above
        high = self.maximum if self.below is None else self.below
        if low is not None and high is not None:
            opening = "[" if self.above is None else "("
            closing = "]" if self.below is None else ")"
            return f"{kind.__name__} in {opening}{low}, {high}{closing}"
        if low is not None:
            return f"{kind.__name__} {'>=' if self.above is None else '>'} {low}"
        return f"{kind.__name__} {'<=' if self.below is None else '<'} {high}"


@dataclass(frozen=True)
class Share(Range):
    """A share between 0 and 1; whoever writes percents is told so."""

    above: float | None = 0
    below: float | None = 1

    def check(self, argument: str, value: Any, kind: type, beside: Mapping[str, Any]) -> None:
        try:
            super().check(argument, value, kind, beside)
        except InputError:
            percent = isinstance(value, int | float) and 1 < value < 100
            hint = f" Did you mean {value / 100:g}?" if percent else ""
            raise InputError(f"{argument} must be in (0, 1); received {value!r}.{hint}") from None


@dataclass(frozen=True)
class Radius(Range):
    """A radius for images in [0, 1], at most 1 in the infinity norm.

    Args:
        norm: the argument that holds the norm.
    """

    above: float | None = 0
    maximum: float | None = 1
    norm: str = "norm"

    def check(self, argument: str, value: Any, kind: type, beside: Mapping[str, Any]) -> None:
        infinity = beside.get(self.norm, "inf") in ("inf", "infinity", float("inf"))
        check_epsilon(argument, value, "inf" if infinity else "2")


@dataclass(frozen=True)
class Choice:
    """One of a few names.

    Args:
        known: the names; a registry may grow after the declaration.
    """

    known: Iterable[str]

    def check(self, argument: str, value: Any, kind: type, beside: Mapping[str, Any]) -> None:
        """Raises `InputError`, with the nearest name, when `value` is none of them."""
        del kind, beside
        check_choice(argument, value, self.known)

    def words(self, kind: type) -> str:
        """How a docstring says it: `"cosine" or "dot"`; many names have a list elsewhere."""
        *others, last = (f'"{name}"' for name in self.known)
        if len(others) > 5:
            return kind.__name__
        return f"{', '.join(others)} or {last}" if others else last


class Truth:
    """True or False, nothing that merely counts as such."""

    def check(self, argument: str, value: Any, kind: type, beside: Mapping[str, Any]) -> None:
        """Raises `InputError` when `value` is another."""
        del kind, beside
        check_flag(argument, value)

    def words(self, kind: type) -> str:
        """How a docstring says it."""
        return kind.__name__


PositiveInt = Annotated[int, Range(minimum=1)]
NonNegativeInt = Annotated[int, Range(minimum=0)]
PositiveFloat = Annotated[float, Range(above=0)]
NonNegativeFloat = Annotated[float, Range(minimum=0)]
UnitFloat = Annotated[float, Range(minimum=0, maximum=1)]
Epsilon = Annotated[float, Radius()]
Rate = Annotated[float, Share()]
Port = Annotated[int, Range(minimum=0, maximum=65535)]
Severity = Annotated[int, Range(minimum=1, maximum=5)]
Flag = Annotated[bool, Truth()]


@dataclass(frozen=True)
class Declared:
    """What a hint says of an argument.

    Attributes:
        kind: the type, `float` of `PositiveFloat | None`.
        rule: what values must keep to.
        optional: None is a value too.
        each: the values are in a list or tuple.
    """

    kind: type
    rule: Range | Choice | Truth
    optional: bool = False
    each: bool = False

    def check(self, argument: str, value: Any, beside: Mapping[str, Any]) -> None:
        """Raises `InputError` when `value` does not keep to the rule."""
        if value is None and self.optional:
            return
        for one in value if self.each else [value]:
            self.rule.check(argument, one, self.kind, beside)

    @property
    def words(self) -> str:
        """How a docstring says it."""
        return self.rule.words(self.kind)


@functools.cache
def declared(owner: Callable[..., Any]) -> dict[str, Declared]:
    """Returns what the hints of a dataclass or a function declare, by name."""
    hints = typing.get_type_hints(owner, include_extras=True)
    return {name: found for name, hint in hints.items() for found in _declarations(hint)}


def check_settings(settings: Any) -> None:
    """Checks the fields of a dataclass's instance against their declared ranges.

    Raises:
        InputError: one is out of its range.
    """
    owner: Any = type(settings)
    _check(declared(owner), vars(settings))


def checked(function: Function) -> Function:
    """Makes a function check its arguments against their declared ranges before it runs."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            given = signature.bind(*args, **kwargs)
        except TypeError:
            # Python's own message names the function.
            return function(*args, **kwargs)
        given.apply_defaults()
        _check(declared(function), given.arguments)
        return function(*args, **kwargs)

    # Keras looks at the arguments of `__init__` without following `__wrapped__`.
    wrapper.__dict__["__signature__"] = signature
    return typing.cast(Function, wrapper)


def _check(declarations: Mapping[str, Declared], values: Mapping[str, Any]) -> None:
    for name, declaration in declarations.items():
        if name in values:
            declaration.check(name, values[name], values)


def _declarations(hint: Any, optional: bool = False, each: bool = False) -> Iterator[Declared]:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        rules = (part for part in parts[1:] if isinstance(part, Range | Choice | Truth))
        yield from (Declared(parts[0], rule, optional, each) for rule in rules)
    elif origin in (typing.Union, types.UnionType):
        optional |= type(None) in parts
        for part in parts:
            yield from _declarations(part, optional, each)
    elif origin in (tuple, list):
        for part in parts:
            yield from _declarations(part, optional, each=True)
