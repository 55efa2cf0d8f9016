"""What an object shows of itself: a line in a terminal, a small table in a notebook."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

#: A table in a notebook has no more rows than that.
MOST_ROWS = 24
_MOST_NAMES = 8


@dataclass(frozen=True)
class Brief:
    """The short form of an object.

    Attributes:
        line: in a few words.
        head: of the columns of a table (default none).
        rows: cells as words; the first names the row (default none).
        page: a page with more; None where there is none.
    """

    line: str
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = field(default=())
    page: Path | None = None


class Briefly:
    """Gives `repr` one line, and notebooks a small table with a link to the page.

    A dataclass is decorated with `repr=False` to take this one.
    """

    def brief(self) -> Brief:
        """Returns the short form; a subclass says it."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.brief().line})"

    def _repr_html_(self) -> str:
        found = self.brief()
        parts = [Markup("<p><b>{}</b>: {}</p>").format(type(self).__name__, found.line)]
        if found.rows:
            parts.append(_table(found.head, found.rows))
        if found.page is not None:
            address = Path(os.path.relpath(found.page)).as_posix()
            parts.append(
                Markup('<p><a href="{}" target="_blank">{}</a></p>').format(quote(address), address)
            )
        return Markup("\n").join(parts)


class Metrics(Briefly, dict[str, Any]):
    """A dictionary of results that shows its short form.

    Args:
        values: the results.
        brief: the short form.
    """

    def __init__(self, values: Mapping[str, Any], brief: Brief) -> None:
        super().__init__(values)
        self._brief = brief

    def brief(self) -> Brief:
        return self._brief


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    titles = Markup("").join(Markup("<th>{}</th>").format(cell) for cell in head)
    lines = [
        Markup("<tr>{}</tr>").format(
            Markup("").join(Markup("<td>{}</td>").format(cell) for cell in row)
        )
        for row in rows[:MOST_ROWS]
    ]
    if len(rows) > MOST_ROWS:
        lines.append(Markup("<tr><td>and {} more</td></tr>").format(len(rows) - MOST_ROWS))
    return Markup("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>").format(
        titles, Markup("").join(lines)
    )


def few(names: Sequence[str], most: int = _MOST_NAMES) -> str:
    """Returns names in a line: the first ones, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
