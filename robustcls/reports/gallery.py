"""A gallery of images with what a model makes of them: filters, search, keys, enlarging.

The page is a plain description, so that classifiers and detectors share it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from robustcls.reports.evaluations import LINKS
from robustcls.reports.html import page_template
from robustcls.runs import write_text


@dataclass(frozen=True)
class Panel:
    """One picture.

    Attributes:
        caption: below it, a few words.
        picture: its `data:` address.
        alt: what it shows, for those who do not see it.
    """

    caption: str
    picture: str
    alt: str


@dataclass(frozen=True)
class Bar:
    """A colour bar.

    Attributes:
        colours: from its low to its high end.
        low, high: the values at its ends.
    """

    colours: Sequence[str]
    low: str
    high: str


@dataclass(frozen=True)
class Row:
    """Panels that belong together and share their scales.

    Attributes:
        title: above them.
        panels: the pictures.
        bars: the scales, none for photographs.
        note: figures, in words.
    """

    title: str
    panels: Sequence[Panel]
    bars: Sequence[Bar] = ()
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Figures in rows.

    Attributes:
        caption: what they are.
        head: of the columns.
        rows: cells as words; the first cell names the row.
        wordy: the last column holds a sentence rather than a figure.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    wordy: bool = False


@dataclass(frozen=True)
class View:
    """What one model makes of an image.

    Attributes:
        group: the model.
        heading: its answer in one line.
        rank: images with a higher one come first.
        tags: keys of `Page.tags` that apply.
        rows: the pictures.
        tables: the figures.
        ranks: the same by other orders, keys of `Page.orders`.
        answer: what the model says, for the filter of answers.
    """

    group: str
    heading: str
    rank: float
    tags: Sequence[str] = ()
    rows: Sequence[Row] = ()
    tables: Sequence[Table] = ()
    ranks: Mapping[str, float] = field(default_factory=dict)
    answer: str = ""


@dataclass(frozen=True)
class Card:
    """One image.

    Attributes:
        title: its name.
        category: what the filter for classes goes by.
        views: one for each model.
        words: what the search finds besides the title, category and headings.
    """

    title: str
    category: str
    views: Sequence[View]
    words: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page above the gallery: tables and pictures."""

    title: str
    note: str = ""
    tables: Sequence[Table] = ()
    rows: Sequence[Row] = ()


@dataclass(frozen=True)
class Page:
    """The whole report.

    Attributes:
        title: of the page.
        summary: findings, a sentence each.
        note: where it all comes from, in a line.
        cards: the images.
        order: what they are sorted by, in words.
        sections: above the gallery.
        tags: words for each tag of a view, in the order of the filters.
        facts: name to value: models, data, settings, versions, seed.
        orders: other orders to sort by, in words.
    """

    title: str
    summary: Sequence[str]
    note: str
    cards: Sequence[Card]
    order: str
    sections: Sequence[Section] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    orders: Mapping[str, str] = field(default_factory=dict)


def write_gallery(page: Page, path: Path | str) -> None:
    """Writes the page as one HTML file, whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    write_text(path, render(page))


def render(page: Page) -> str:
    """Returns the page as HTML, with the cards in order."""
    cards = sorted(page.cards, key=lambda card: -max(view.rank for view in card.views))
    return page_template("gallery.html", "robustcls.reports").render(
        page=page,
        links=LINKS,
        cards=cards,
        groups={view.group: view.group for card in cards for view in card.views},
        categories=_named(card.category for card in cards),
        answers=_named(view.answer for card in cards for view in card.views if view.answer),
    )


def _named(names: Iterable[str]) -> dict[str, str]:
    return {name: name for name in sorted(set(names))}
