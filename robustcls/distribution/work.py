"""Work in pieces that may be done in any order and anywhere, each with a result of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from robustcls.distribution.parts import Measure


@dataclass(frozen=True)
class Piece:
    """A piece of work.

    Attributes:
        group: what it belongs to, such as the name of a model.
        name: its own name in the group.
        depends_on: all that decides the result, JSON-serializable.
        measure: returns the result, JSON-serializable; is given a folder to keep its state in.
    """

    group: str
    name: str
    depends_on: Mapping[str, Any]
    measure: Measure

    @property
    def title(self) -> str:
        """Group and name, such as `base/pgd20`."""
        return f"{self.group}/{self.name}"


class Results(Protocol):
    """Where results are kept: a `Ledger`, or something like it."""

    @property
    def folder(self) -> Path:
        """The folder of the files."""

    def holds(self, group: str, name: str, depends_on: Mapping[str, Any]) -> bool:
        """Returns whether a result is there already, and would come out the same."""

    def part(
        self, group: str, name: str, depends_on: Mapping[str, Any], measure: Measure
    ) -> dict[str, Any]:
        """Returns the result that is there, or measures and keeps it."""

    def clear(self) -> None:
        """Deletes all results."""


@dataclass(frozen=True)
class Work:
    """What a command measures, in pieces.

    Attributes:
        results: where each piece's result is kept.
        pieces: in the order in which one process does them, the quickest of a group first.
        facts: what all who share the work must have alike, beside what each piece depends on,
            JSON-serializable (default none).
        arrived: is told when the result of another piece is there (default nobody).
        in_words: a result in a few words, for a line on the way (default none).
    """

    results: Results
    pieces: Sequence[Piece]
    facts: Mapping[str, Any] = field(default_factory=dict)
    arrived: Callable[[], None] = lambda: None
    in_words: Callable[[dict[str, Any]], str] = lambda result: ""

    def holds(self, piece: Piece) -> bool:
        """Returns whether a piece is done.

        Args:
            piece: one of the work's.
        """
        return self.results.holds(piece.group, piece.name, piece.depends_on)

    def do(self, piece: Piece, measure: Measure | None = None) -> dict[str, Any]:
        """Returns a piece's result, which is kept.

        Args:
            piece: one of the work's.
            measure: in place of the piece's own (default None).
        """
        own = piece.measure if measure is None else measure
        result = self.results.part(piece.group, piece.name, piece.depends_on, own)
        self.arrived()
        return result

    def line(self, number: int, piece: Piece, result: dict[str, Any], seconds: float) -> str:
        """Returns what is shown of a piece that is done.

        Args:
            number: how many are done.
            piece: one of the work's.
            result: of it.
            seconds: that it took.
        """
        words = filter(None, [self.in_words(result), f"{seconds:.1f} s"])
        return f"{number}/{len(self.pieces)} {piece.title}: {', '.join(words)}"
