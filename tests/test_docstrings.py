"""Docstrings of public names list every argument with its range and default, as the code has it."""

import ast
import importlib
import inspect
import pkgutil
import re

import pytest

import anomaly
import robustcls
from robustcls._settings import declared

_SIMPLE = (type(None), bool, int, float, str, tuple)
#: `Args` of functions, `Attributes` of dataclasses: up to the next title or a line further left.
_SECTION = re.compile(r"^(?:Args|Attributes):\n((?:(?: .*)?\n?)*)", re.MULTILINE)
_ENTRY = re.compile(r"^ {4}(\*{0,2}\w+): (.*(?:\n(?: {8}.*)?)*)", re.MULTILINE)
_DEFAULT = re.compile(r"\(.*\bdefault (\"[^\"]*\"|\([^()]*\)|[^\"()]+)\)")


def _public():
    """Returns the classes, functions and methods that packages offer, by name."""
    found = {}
    for package in (robustcls, anomaly):
        modules = [m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
        public = [name for name in modules if "._" not in name and ".builders" not in name]
        for module in [package.__name__, *public]:
            loaded = importlib.import_module(module)
            for name in getattr(loaded, "__all__", []):
                owner = getattr(loaded, name)
                if inspect.isclass(owner) or inspect.isfunction(owner):
                    found[f"{owner.__module__}.{owner.__qualname__}"] = owner
    classes = [owner for owner in found.values() if inspect.isclass(owner)]
    for kind in classes:
        for name, method in vars(kind).items():
            method = getattr(method, "__func__", method)
            if inspect.isfunction(method) and _is_own(kind, name):
                found[f"{kind.__module__}.{method.__qualname__}"] = method
    return {title: owner for title, owner in found.items() if _takes_own_arguments(owner)}


def _takes_own_arguments(owner):
    return _ours(owner) and _ours(_hinted(owner))


def _ours(owner):
    return getattr(owner, "__module__", "").partition(".")[0] in ("robustcls", "anomaly")


def _is_own(kind, name):
    """Whether a method is public and not one that Keras or Python defines."""
    if name.startswith("_") and name != "__call__":
        return False
    bases = [base for base in kind.__mro__[1:] if name in vars(base)]
    # What only fills in a hook has the docstring of the hook.
    return all(_ours(base) for base in bases) and not (bases and not vars(kind)[name].__doc__)


def _entries(owner):
    found = {}
    for section in _SECTION.finditer(inspect.getdoc(owner) or ""):
        for names, text in _ENTRY.findall(section[1]):
            found[names.strip("*")] = " ".join(text.split())
    return found


def _value(text):
    """Returns what a docstring's default stands for: numbers may be written 8/255 or 2**-7."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        tree = ast.parse(text, mode="eval")
        assert all(
            isinstance(
                node,
                ast.Expression
                | ast.BinOp
                | ast.UnaryOp
                | ast.Constant
                | ast.operator
                | ast.unaryop,
            )
            for node in ast.walk(tree)
        ), text
        return eval(compile(tree, "default", "eval"), {})


def problems(owner):
    """Returns what a docstring lacks or has wrong, a line each."""
    entries = _entries(owner)
    hinted = _hinted(owner)
    ranges = declared(hinted) if inspect.isclass(hinted) or _is_checked(hinted) else {}
    found = []
    for name, parameter in inspect.signature(owner).parameters.items():
        if name in ("self", "cls") or parameter.kind == parameter.VAR_KEYWORD:
            continue
        text = entries.get(name)
        if text is None:
            found.append(f"{name} is missing")
            continue
        if name in ranges and ranges[name].words not in text:
            found.append(f"{name} must say {ranges[name].words!r}: {text}")
        default = parameter.default
        if default is parameter.empty or not isinstance(default, _SIMPLE):
            continue
        stated = _DEFAULT.search(text)
        if not stated or _value(stated[1]) != default:
            found.append(f"{name} must say 'default {default!r}': {text}")
    return found


def _is_checked(function):
    return hasattr(function, "__wrapped__")


def _hinted(owner):
    """Returns what has the hints of the arguments."""
    if inspect.isclass(owner) and not hasattr(owner, "__dataclass_fields__"):
        return owner.__init__
    return owner


_PUBLIC = _public()


@pytest.mark.parametrize("title", sorted(_PUBLIC))
def test_docstring_names_every_argument(title):
    owner = _PUBLIC[title]
    assert inspect.getdoc(owner)
    assert not problems(owner), "\n".join(problems(owner))


def test_no_reference_in_place_of_arguments():
    for title, owner in _PUBLIC.items():
        text = inspect.getdoc(owner) or ""
        assert not re.search(r"\((?:others|all)\):|Args(?: and Raises)?: as for", text), title


def test_a_wrong_docstring_is_seen():
    def function(steps: int = 20, kind: str = "a", size: int = 1):
        """Does.

        Args:
            steps: how many (int >= 1, default 10).
            kind: which (str, default "a").
        """

    assert problems(function) == [
        "steps must say 'default 20': how many (int >= 1, default 10).",
        "size is missing",
    ]
