"""The reference: a page for each package that lists public names, made of their docstrings.

A name that several packages offer has its text under the shortest, and elsewhere a line that leads
there. So a name that is added to an `__all__` is in the reference, once, without another line.
"""

from __future__ import annotations

import abc
import contextlib
import importlib
import inspect
import pkgutil
import re
import sys
from pathlib import Path
from types import GenericAlias, ModuleType
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.errors import PycodeError
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

ROOTS = ("robustcls", "anomaly")
_ROLES = {"function": "func", "exception": "exc"}


def public_packages() -> dict[str, list[str]]:
    """Returns the public names of each package that lists some, those with short names first."""
    found = {}
    for root in ROOTS:
        rooms = pkgutil.walk_packages(importlib.import_module(root).__path__, f"{root}.")
        for package in (root, *(name for _, name, is_package in rooms if is_package)):
            names = getattr(importlib.import_module(package), "__all__", ())
            if names:
                found[package] = sorted(names)
    return {name: found[name] for name in sorted(found, key=lambda name: (name.count("."), name))}


def write_pages(app: Sphinx) -> None:
    """Writes the page of each package, where its text has changed, and deletes others."""
    folder = Path(app.srcdir, "reference", "generated")
    folder.mkdir(exist_ok=True)
    pages = {
        folder / f"{package}.rst": f"{package}\n{'=' * len(package)}\n\n"
        f".. public-names:: {package}\n"
        for package in public_packages()
    }
    for path in set(folder.iterdir()) - set(pages):
        path.unlink()
    for path, text in pages.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


class PublicNames(SphinxDirective):
    """`.. public-names:: robustcls.attacks`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        package = self.arguments[0]
        module = importlib.import_module(package)
        lines = [f".. py:module:: {package}", ""]
        lines += [*inspect.cleandoc(module.__doc__ or "").splitlines(), ""]
        elsewhere = []
        packages = public_packages()
        for name in packages[package]:
            value, full = getattr(module, name), f"{package}.{name}"
            home = _home(name, value, packages)
            if full in packages:
                lines.append(f":doc:`{full}`")
            elif isinstance(value, ModuleType) and value.__name__ in packages:
                lines += [
                    f".. py:data:: {name}",
                    f"   :module: {package}",
                    "",
                    f"   :doc:`{value.__name__}`",
                ]
            elif isinstance(value, ModuleType):
                lines += [f".. automodule:: {full}", "   :members:"]
            elif home == package and _kind(value) == "data":
                lines += [f".. py:data:: {name}", f"   :module: {package}", ""]
                lines += [f"   {line}" for line in _words_on(name, value)]
            elif home == package:
                lines += _described(full, value)
            else:
                kind, elsewhere = _kind(value), [*elsewhere, full]
                role = _ROLES.get(kind, kind)
                lines += [f".. py:{kind}:: {name}", f"   :module: {package}", ""]
                lines.append(f"   Is :py:{role}:`{home}.{name}`.")
            lines.append("")
        section = nodes.section(document=self.state.document)
        self.state.nested_parse(StringList(lines, source=package), 0, section)
        # Where only the last part of a name is written, the one with the text is meant.
        objects = self.env.get_domain("py").data["objects"]
        for full in elsewhere:
            objects[full] = objects[full]._replace(aliased=True)
        return section.children


def _home(name: str, value: Any, packages: dict[str, list[str]]) -> str:
    """Returns the first package that offers a value by this name; its page has the text."""
    return next(
        package
        for package, names in packages.items()
        if name in names and getattr(importlib.import_module(package), name) is value
    )


def _kind(value: Any) -> str:
    if isinstance(value, GenericAlias):
        return "data"
    if inspect.isclass(value):
        return "exception" if issubclass(value, BaseException) else "class"
    return "function" if callable(value) else "data"


def _words_on(name: str, value: Any) -> list[str]:
    """Returns the string below the assignment of a constant, wherever its module is."""
    for module in list(sys.modules.values()):
        if module.__name__.startswith(ROOTS) and vars(module).get(name) is value:
            with contextlib.suppress(PycodeError):
                words = ModuleAnalyzer.for_module(module.__name__).find_attr_docs()
                if ("", name) in words:
                    return words["", name]
    return []


def _described(full: str, value: Any) -> list[str]:
    kind = _kind(value)
    lines = [f".. auto{kind}:: {full}"]
    if kind in ("class", "exception"):
        lines.append("   :members:")
        if value.__bases__[0] not in (object, abc.ABC):
            lines.append("   :show-inheritance:")
        if "__call__" in vars(value):
            lines.append("   :special-members: __call__")
    return [*lines, ""]


def as_sphinx_reads(
    app: Sphinx, kind: str, name: str, value: Any, options: Any, lines: list[str]
) -> None:
    """Marks the indented code in a docstring, and keeps |x| and [n, *shape] as they are."""
    written = lines[:]
    lines.clear()
    for number, line in enumerate(written):
        above = written[max(0, number - 2) : number]
        if line.startswith("    ") and len(above) == 2 and above[0][:1].strip() and not above[1]:
            lines += ["::", ""]
        parts = re.split(r"(`[^`]*`)", line)
        alone = "".join(parts[::2]).count("*") == 1
        parts[::2] = [re.sub(r"[|*]" if alone else r"[|]", r"\\\g<0>", part) for part in parts[::2]]
        lines.append("".join(parts))


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.setup_extension("sphinx.ext.autodoc")
    app.add_directive("public-names", PublicNames)
    app.connect("builder-inited", write_pages)
    app.connect("autodoc-process-docstring", as_sphinx_reads)
    return {"parallel_read_safe": True}
