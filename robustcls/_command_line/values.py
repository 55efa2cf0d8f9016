"""What a flag takes, and its value in every spelling."""

from __future__ import annotations

import argparse
import re
import types
import typing
from collections.abc import Sequence
from typing import Any

import yaml

from robustcls._validation import InputError, check_choice

_FRACTION = re.compile(r"\s*([-+]?\d+(?:\.\d*)?|[-+]?\.\d+)\s*/\s*(\d+(?:\.\d*)?)\s*")
_WORDS = {int: "an integer", float: "a number like 0.03 or 8/255", bool: "true or false"}


def kinds_of(action: argparse.Action) -> tuple[Any, ...]:
    """Returns the types that an argument takes, None among them as `type(None)`."""
    if isinstance(action, argparse._StoreTrueAction):
        return (bool,)
    hint = getattr(action, "_typehint", action.type)
    return () if hint is None else _alternatives(hint)


def kind_of_entries(kind: Any) -> Any:
    """Returns what the entries of a type of list are."""
    return _alternatives(typing.get_args(kind)[0])[0]


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """Returns the types that a hint allows, without the ranges that it declares."""
    if typing.get_origin(hint) is typing.Annotated:
        return _alternatives(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(kind for part in typing.get_args(hint) for kind in _alternatives(part))
    return (hint,)


def is_list(action: argparse.Action) -> bool:
    """Says whether an argument takes a list."""
    return any(typing.get_origin(kind) in (list, tuple) for kind in kinds_of(action))


def is_mapping(action: argparse.Action) -> bool:
    """Says whether an argument takes settings by name."""
    return any(typing.get_origin(kind) is dict for kind in kinds_of(action))


def list_of_words(name: str, words: Sequence[str]) -> list[Any]:
    """Returns the entries that `a b`, `a,b` or `[a,b]` name, not converted.

    Args:
        name: of the argument.
        words: of the command line, at least one.

    Raises:
        InputError: the syntaxes are mixed, a bracket is left open or an entry is empty.
    """
    text = " ".join(words)
    entries: Any = list(words)
    if text.startswith("[") and text.endswith("]"):
        try:
            entries = yaml.load(text, yaml.BaseLoader)
        except yaml.YAMLError:
            entries = None
    elif len(words) == 1 and "[" not in text and "]" not in text:
        entries = [entry.strip() for entry in text.split(",")]
    elif any(mark in text for mark in ",[]"):
        entries = None
    if (
        not isinstance(entries, list)
        or not all(isinstance(entry, str) for entry in entries)
        or "" in entries
    ):
        raise InputError(f"{name} must be a list like a b, a,b or [a,b]; received {text!r}.")
    return entries


def mended(action: argparse.Action, name: str, value: Any) -> Any:
    """Returns the value of an argument as jsonargparse takes it.

    Args:
        action: the argument.
        name: of the argument, for messages.
        value: from a flag or a YAML file.

    Raises:
        InputError: it is not of the argument's kind.
    """
    kinds = kinds_of(action)
    if type(None) in kinds and (value is None or value == "null"):
        return None
    for kind in kinds:
        if typing.get_origin(kind) in (list, tuple):
            return _list(name, value, kind)
        if typing.get_origin(kind) is dict:
            return _numbers(value)
    plain = [kind for kind in kinds if kind is not type(None)]
    if len(plain) == 1:
        value = _scalar(name, value, plain[0])
    if action.choices and value is not None:
        check_choice(name, value, action.choices)
    return value


def _list(name: str, value: Any, kind: Any) -> list[Any]:
    if isinstance(value, str):
        value = list_of_words(name, [value])
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        value = [value]
    if not isinstance(value, (list, tuple)):
        raise InputError(f"{name} must be a list like [a, b]; received {value!r}.")
    parts = typing.get_args(kind)
    if Ellipsis not in parts and len(parts) > 1 and len(value) != len(parts):
        raise InputError(f"{name} must be {len(parts)} values; received {len(value)}.")
    return [_scalar(name, entry, kind_of_entries(kind)) for entry in value]


def _scalar(name: str, value: Any, kind: Any) -> Any:
    if kind not in _WORDS:
        return str(value) if kind is str and type(value) in (int, float) else value
    found = yaml.safe_load(value) if _is_plain(value) else value
    if kind is bool and isinstance(value, str):
        found = {"true": True, "false": False}.get(value.lower())
    if kind is float:
        found = _number(found)
        try:
            # What YAML takes for a word: 1e-3.
            found = float(found) if not isinstance(found, bool) else None
        except (TypeError, ValueError):
            found = None
    if type(found) is not kind:
        raise InputError(f"{name} must be {_WORDS[kind]}; received {value!r}.")
    return found


def _is_plain(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[\w.+-]+", value) is not None


def _number(value: Any) -> Any:
    """Returns `8/255` as a number, and anything else as it is."""
    match = _FRACTION.fullmatch(value) if isinstance(value, str) else None
    if match is None or float(match[2]) == 0:
        return value
    return float(match[1]) / float(match[2])


def _numbers(value: Any) -> Any:
    """Returns settings with their fractions as numbers."""
    if isinstance(value, dict):
        return {key: _numbers(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_numbers(entry) for entry in value]
    return _number(value)
