"""Modules that a command line names with `--import MODULE`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FunctionType, ModuleType

from robustcls._command_line.running import import_tensorflow, named_files
from robustcls._user_code import in_one_line
from robustcls._validation import InputError

#: What `--import` named in this process.
named_modules: list[str] = []


def import_named_modules(arguments: Sequence[str]) -> list[str]:
    """Imports the modules that `--import MODULE` names; returns the other arguments.

    The flag may stand anywhere and more than once. Modules are looked for among the installed
    ones, then in the current folder. What they define, an attack for example, is registered by
    the time that the command's own arguments are read.

    Raises:
        InputError: there is no such module, or it fails.
    """
    names, left = [], []
    given = iter(arguments)
    for argument in given:
        flag, equals, value = argument.partition("=")
        if flag == "--import":
            names.append(value if equals else next(given, ""))
        else:
            left.append(argument)
    for name in names:
        _import_named(name)
    named_modules[:] = names
    return left


def _register_with_keras(module: ModuleType) -> None:
    """Lets saved models find the layers and functions of a module by their names."""
    import keras

    known = keras.saving.get_custom_objects()
    for name, value in vars(module).items():
        is_layer = isinstance(value, type) and issubclass(value, keras.Layer)
        is_own = getattr(value, "__module__", None) == module.__name__
        if is_own and (is_layer or isinstance(value, FunctionType)):
            known.setdefault(name, value)


def _import_named(name: str) -> None:
    if not all(part.isidentifier() for part in name.split(".")) or name.endswith(".py"):
        hint = f" Did you mean {Path(name).stem}?" if name.endswith(".py") else ""
        raise InputError(f"--import must be the name of a module; received {name!r}.{hint}")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)
    importlib.invalidate_caches()
    spec = None
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None:
            named_files.update(spec.submodule_search_locations or [str(spec.origin)])
            import_tensorflow()
            _register_with_keras(importlib.import_module(name))
    except (Exception, SystemExit) as error:
        # Whatever the code of a user raises.
        words = in_one_line(error, None if spec is None else spec.origin)
        raise InputError(f"--import {name} failed: {words}") from error
    if spec is None:
        raise InputError(
            "--import must be a module that is installed or lies in the current folder; "
            f"received {name!r}."
        )
