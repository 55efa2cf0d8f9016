"""Every declared range is kept to: just inside passes, just outside is refused by name."""

import importlib
import inspect
import math
import pkgutil
from typing import Annotated

import pytest

import anomaly
import robustcls
from robustcls._settings import Choice, Range, checked, declared
from robustcls._validation import InputError


def _owners():
    """Returns what declares ranges, by name: dataclasses and functions marked `checked`."""
    found = {}
    for package in (robustcls, anomaly):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if ".builders" in module.name or module.name.endswith("__main__"):
                continue
            members = vars(importlib.import_module(module.name)).values()
            own = [m for m in members if getattr(m, "__module__", None) == module.name]
            for member in own:
                methods = vars(member).values() if inspect.isclass(member) else ()
                for owner in (member, *methods):
                    if _declares(owner):
                        found[f"{owner.__module__}.{owner.__qualname__}"] = owner
    return found


def _declares(owner):
    if inspect.isabstract(owner):
        return False
    if inspect.isclass(owner):
        return hasattr(owner, "__dataclass_fields__") and bool(declared(owner))
    return hasattr(owner, "__wrapped__") and inspect.isfunction(owner) and bool(declared(owner))


def _edges(rule, kind):
    """Returns values just inside and just outside of a rule."""
    if not isinstance(rule, Range):
        inside = list(rule.known) if isinstance(rule, Choice) else [True, False]
        return inside, ["none of these" if isinstance(rule, Choice) else 1]
    step = 1 if kind is int else 1e-6
    inside, outside = [], [math.nan, "1", None]
    for bound, out, closed in (
        (rule.minimum, -step, True),
        (rule.maximum, step, True),
        (rule.above, -step, False),
        (rule.below, step, False),
    ):
        if bound is not None:
            inside.append(bound if closed else bound - out)
            outside.append(bound + out if closed else bound)
    return inside, outside


def _usable(owner, name):
    if name in declared(owner):
        return _edges(declared(owner)[name].rule, declared(owner)[name].kind)[0][0]
    return (32, 32, 3) if name == "image_shape" else name


_ROWS = [
    pytest.param(owner, name, declaration, id=f"{title.partition('.')[2]}.{name}")
    for title, owner in sorted(_owners().items())
    for name, declaration in declared(owner).items()
]


@pytest.mark.parametrize(("owner", "name", "declaration"), _ROWS)
def test_declared_range(owner, name, declaration):
    inside, outside = _edges(declaration.rule, declaration.kind)
    wrap = (lambda value: [value]) if declaration.each else (lambda value: value)
    for value in inside:
        declaration.check(name, wrap(value), {})
    if declaration.optional:
        declaration.check(name, None, {})
        outside = [value for value in outside if value is not None]
    required = {
        parameter.name: _usable(owner, parameter.name)
        for parameter in inspect.signature(owner).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    for value in outside:
        with pytest.raises(InputError, match=rf"^{name} must be .*; received "):
            owner(**{**required, name: wrap(value)})


def test_table_is_not_empty():
    assert len(_ROWS) > 100


def test_words():
    @checked
    def function(
        share: Annotated[float, Range(above=0, below=1)],
        count: Annotated[int, Range(minimum=1)] = 1,
        kind: Annotated[str, Choice(("a", "b"))] | None = None,
    ):
        return share, count, kind

    words = {name: declaration.words for name, declaration in declared(function).items()}
    assert words == {"share": "float in (0, 1)", "count": "int >= 1", "kind": '"a" or "b"'}
    assert function(0.5) == (0.5, 1, None)
    with pytest.raises(InputError, match=r"count must be an integer >= 1; received 0\."):
        function(0.5, count=0)
    with pytest.raises(TypeError, match="function"):
        function()
