"""Templates of HTML pages, compiled once a process."""

from __future__ import annotations

import functools

import jinja2


def page_template(name: str, *packages: str) -> jinja2.Template:
    """Returns a template that escapes what it is given and refuses what it is not.

    Compiling one takes longer than filling it in many times over, as evaluations do after each of
    their parts.

    Args:
        name: file name of the template.
        packages: in whose folders `templates` it and what it includes are looked for, the first
            first.
    """
    return _environment(packages).get_template(name)


@functools.cache
def _environment(packages: tuple[str, ...]) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(package) for package in packages]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["percent"] = lambda share: f"{100 * share:.1f}"
    return environment
