"""The table of the zoo's models, made of their cards."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from robustcls.models.zoo.cards import names, read_card

COLUMNS = ("clean", "autoattack", "certified")


class Leaderboard(SphinxDirective):
    """`.. leaderboard::`: for each set and ball the models, the most robust first."""

    def run(self) -> list[nodes.Node]:
        cards = [read_card(name) for name in names()]
        lines = []
        for data, ball in sorted({(card.data, card.ball) for card in cards}):
            chosen = [card for card in cards if (card.data, card.ball) == (data, ball)]
            chosen.sort(key=lambda card: -card.results.get("autoattack", 0))
            lines += [
                "",
                f".. list-table:: {data}, {ball}: accuracy in %",
                "   :header-rows: 1",
                "",
            ]
            for row in [("model", *COLUMNS, "images", "objective", "time"), *map(_cells, chosen)]:
                lines += [f"   {'* -' if at == 0 else '  -'} {cell}" for at, cell in enumerate(row)]
        container = nodes.Element()
        self.state.nested_parse(StringList(lines), self.content_offset, container)
        return container.children


def _cells(card: Any) -> tuple[str, ...]:
    found = (card.results.get(name) for name in COLUMNS)
    figures = ("–" if value is None else f"{100 * value:.2f}" for value in found)
    return (f"``{card.name}``", *figures, f"{card.images:,}", card.objective, card.machine)


def setup(app: Sphinx) -> dict[str, bool]:
    """Adds the directive."""
    app.add_directive("leaderboard", Leaderboard)
    return {"parallel_read_safe": True}
