"""Arguments and settings in the one spelling that jsonargparse reads.

What a user may write in several ways (lists, data, fractions, switches) is written in one way
before it is parsed. So unknown flags and broken values are met here, with the flag's name at hand.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml
from jsonargparse import ArgumentParser, get_loader

from robustcls._command_line.values import is_list, is_mapping, kinds_of, list_of_words, mended
from robustcls._validation import InputError, nearest

#: jsonargparse adds it while it parses.
_COMPLETION = "--print_completion"


def spell(parser: ArgumentParser, arguments: Sequence[str]) -> list[str]:
    """Returns the arguments of one command, each flag as `--flag=value`.

    Words after a list belong to it, but for those that the command needs besides, so
    `--attack fgsm pgd runs/mine` works as `runs/mine --attack fgsm pgd` does.

    Raises:
        InputError: a flag is unknown, lacks its value or has a broken one.
    """
    if parser._subcommands_action is not None:
        return _before_command(parser, list(parser._subcommands_action.choices), arguments)
    flags, words = _grouped(parser, arguments)
    needed = sum(not a.option_strings and a.nargs is None for a in parser._actions)
    spelled = []
    for flag, action, values in flags:
        while len(words) < needed and len(values) > 1 and _many(flag, action):
            words.append(values.pop())
        others = [name for name in parser._option_string_actions if name != flag]
        spelled.append(_spelled(flag, action, values, nearest(flag, others)))
    if len(words) > needed:
        extra = " ".join(words[needed:])
        raise InputError(
            f"{extra!r} belongs to no flag: a list is given as a b, a,b or [a,b], a switch alone "
            "or with true or false."
        )
    if len(words) < needed and not {"-h", "--help", "--config"} & {flag for flag, *_ in flags}:
        names = [a.dest for a in parser._actions if not a.option_strings]
        raise InputError(f"{names[len(words)]} is required; received none.")
    return [*words, *spelled]


def mend_settings(parser: ArgumentParser, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a YAML file as jsonargparse takes them.

    Raises:
        InputError: a setting is unknown or of the wrong kind.
    """
    actions = _settings_of(parser)
    mended_settings: dict[str, Any] = {}
    for key, value in _flattened(actions, settings):
        name = key if key in actions else _other_name(key, actions)
        if name is None:
            raise InputError(f"{key} is no setting here.{_near(key, actions)}")
        place = mended_settings
        *groups, last = name.split(".")
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = mended(actions[name], key, value)
    return mended_settings


def _before_command(
    parser: ArgumentParser, commands: Iterable[str], arguments: Sequence[str]
) -> list[str]:
    """Checks what stands before the name of a command, and that name."""
    options = [*parser._option_string_actions, _COMPLETION]
    listed = ", ".join(commands)
    if not arguments:
        raise InputError(f"COMMAND must be one of {listed}; received none.")
    for argument in arguments:
        flag = argument.partition("=")[0]
        if flag == _COMPLETION or argument in commands:
            break
        if not argument.startswith("-"):
            hint = nearest(argument, commands)
            raise InputError(f"COMMAND must be one of {listed}; received {argument!r}.{hint}")
        if flag not in options:
            hint = _near(flag, options)
            raise InputError(f"{flag} must follow the command that it is a flag of.{hint}")
    return list(arguments)


def _grouped(
    parser: ArgumentParser, arguments: Sequence[str]
) -> tuple[list[tuple[str, argparse.Action, list[str]]], list[str]]:
    """Returns each flag with its words, and the words that belong to none."""
    flags: list[tuple[str, argparse.Action, list[str]]] = []
    words: list[str] = []
    room = 0
    for place, argument in enumerate(arguments):
        if argument == "--":
            words += arguments[place + 1 :]
            break
        if not re.match(r"--|-[a-zA-Z]", argument):
            if room:
                flags[-1][2].append(argument)
                room -= 1
            else:
                words.append(argument)
            if room and _closed(flags[-1][2]):
                room = 0
            continue
        given, equals, value = argument.partition("=")
        following = arguments[place + 1] if place + 1 < len(arguments) else None
        flag, action = _known(parser, given, value if equals else following)
        flags.append((flag, action, [value] if equals else []))
        room = 0 if equals else _room(flag, action, following)
    return flags, words


def _closed(words: Sequence[str]) -> bool:
    """Says whether nothing follows in a list: `--attack fgsm,pgd runs/mine`."""
    if words[0].startswith("["):
        return words[-1].endswith("]")
    return len(words) == 1 and "," in words[0] and not words[0].endswith(",")


def _room(flag: str, action: argparse.Action, following: str | None) -> int:
    """Returns how many words a flag takes at most."""
    if _many(flag, action):
        return 10**6
    if bool in kinds_of(action):
        return int(following is not None and following.lower() in ("true", "false"))
    return int(action.nargs != 0 and flag != "--print_config")


def _many(flag: str, action: argparse.Action) -> bool:
    return is_list(action) or _inside(flag, action)


def _inside(flag: str, action: argparse.Action) -> bool:
    """Says whether a flag names one of an argument's settings, `--settings.filters`."""
    return is_mapping(action) and flag not in action.option_strings


def _known(parser: ArgumentParser, flag: str, value: str | None) -> tuple[str, argparse.Action]:
    """Returns a flag in the spelling of its command, and its argument."""
    options = parser._option_string_actions
    names = [name[2:] for name in options if name.startswith("--") and not name.endswith("+")]
    is_name = flag != "--data" or not (value or "").startswith("{")
    name = _other_name(flag[2:], names) if flag.startswith("--") and is_name else None
    flag = f"--{name}" if name else flag
    if flag in options:
        return flag, options[flag]
    group = flag.partition(".")[0]
    if "." in flag and group in options and is_mapping(options[group]):
        return flag, options[group]
    raise InputError(f"{flag} is no flag of this command.{_near(flag, options)}")


def _other_name(name: str, known: Iterable[str]) -> str | None:
    """Returns how a command calls a setting of the images: `data.image_size` or `image_size`."""
    known = set(known)
    nested = "data.name" if name == "data" else f"data.{name}"
    if nested in known:
        return nested
    flat = "data" if name == "data.name" else name.removeprefix("data.")
    return flat if flat in known and name.startswith("data.") and name not in known else None


def _near(name: str, known: Iterable[str]) -> str:
    """Returns a hint at a flag of that name in some group, or else at the nearest."""
    known = [each for each in known if not each.endswith("+")]
    bare = name.lstrip("-")
    for each in known:
        if each.rpartition(".")[2] == bare:
            return f" Did you mean '{each}'?"
    return nearest(name, known)


def _spelled(flag: str, action: argparse.Action, words: list[str], near: str) -> str:
    """Returns one argument; `near` is a hint at another flag, for a group without settings."""
    name = flag.removeprefix("--")
    if bool in kinds_of(action):
        given = mended(action, name, words[0].lower() if words else "true")
        if action.nargs != 0:
            return f"{flag}={json.dumps(given)}"
        if not given:
            raise InputError(f"{name} is a switch, off when left out; received false.")
        return flag
    if action.nargs == 0 or flag == "--print_config":
        if words and action.nargs == 0:
            raise InputError(f"{name} takes no value; received {words[0]!r}.")
        return "=".join([flag, *words])
    if not words or words == [""]:
        raise InputError(f"{name} needs a value; received none.")
    value: Any = words[0]
    if not kinds_of(action) and action.dest != "config" and not value.startswith("{"):
        raise InputError(f"{name} must be settings like {{a: 1}}; received {value!r}.{near}")
    if _inside(flag, action):
        value = _loaded(name, words)
        value = mended(action, name, value)
        return f"{flag}={value if isinstance(value, str) else json.dumps(value)}"
    if is_list(action) and words != ["null"]:
        value = list_of_words(name, words)
    elif is_mapping(action):
        value = _loaded(name, words)
        if not isinstance(value, dict | None):
            raise InputError(f"{name} must be settings like {{a: 1}}; received {words[0]!r}.{near}")
    value = mended(action, name, value)
    return f"{flag}={value if isinstance(value, str) else json.dumps(value)}"


def _loaded(name: str, words: list[str]) -> Any:
    """Returns the YAML value of words, a list where there are several or commas between."""
    text = " ".join(words)
    if not text.startswith(("{", "[", '"', "'")) and (len(words) > 1 or "," in text):
        text = f"[{', '.join(list_of_words(name, words))}]"
    try:
        return get_loader("yaml")(text)
    except yaml.YAMLError:
        raise InputError(f"{name} must be YAML like {{a: 1}}; received {text!r}.") from None


def _settings_of(parser: ArgumentParser) -> dict[str, argparse.Action]:
    """Returns by name what a YAML file may hold."""
    return {
        action.dest: action
        for action in parser._actions
        if action.dest not in (argparse.SUPPRESS, "help", "config")
        and not (action.type is None and not kinds_of(action))
    }


def _flattened(
    actions: Mapping[str, argparse.Action], settings: Mapping[str, Any], above: str = ""
) -> Iterable[tuple[str, Any]]:
    for key, value in settings.items():
        name = f"{above}{key}"
        takes_mapping = name in actions and is_mapping(actions[name])
        if isinstance(value, dict) and not takes_mapping:
            yield from _flattened(actions, value, f"{name}.")
        else:
            yield name, value
