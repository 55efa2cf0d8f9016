"""`FamiliarityReport`: what a measure of familiarity is worth, as rows and files."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from robustcls._notebook import Brief, Briefly
from robustcls.familiarity.measures import Interval

_HEAD = ("method", "set", "kind", "images", "AUROC %", "FPR95 %", "refused %")


@dataclass(frozen=True, kw_only=True)
class SetResult:
    """What was found on one set of unfamiliar images.

    Attributes:
        method: name of the method.
        name: of the set.
        kind: "far", of another kind than the training images, or "near", classes like theirs.
        count: images in it.
        auroc: of known against unfamiliar images.
        fpr95: share that passes where 95 % of the known images do.
        refused: share below the threshold.
        attacked: share that is still refused when an attack moves them; None without one.
    """

    method: str
    name: str
    kind: str
    count: int
    auroc: Interval
    fpr95: Interval
    refused: Interval
    attacked: Interval | None = None


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class FamiliarityReport(Briefly):
    """What `evaluate` returns.

    Attributes:
        results: a row for each method and set, the methods in the order given.
        known: images that the sets are compared with.
        asked: the rate of false alarms asked for.
        false_alarms: by method, the share of the known images that is refused.
        attacked_alarms: by method, the share that an attack makes be refused; empty without one.
        accuracy: of the classifier on the known images.
        accuracy_kept: by method, on those that are not refused; None where all are.
        attack: the attack in words; None without one.
        scores: by method and set, `known` among them, float32 [n] scores.
    """

    results: tuple[SetResult, ...]
    known: int
    asked: float
    false_alarms: Mapping[str, Interval]
    attacked_alarms: Mapping[str, Interval]
    accuracy: float
    accuracy_kept: Mapping[str, float | None]
    attack: str | None
    scores: Mapping[str, Mapping[str, np.ndarray]]

    @property
    def methods(self) -> tuple[str, ...]:
        """The names of the methods."""
        return tuple(self.false_alarms)

    def mean(self, method: str, kind: str) -> float | None:
        """Returns the mean AUROC over the sets of a kind; None where there is none.

        Args:
            method: name of the method.
            kind: "far" or "near".
        """
        found = [r.auroc.value for r in self.results if (r.method, r.kind) == (method, kind)]
        return float(np.mean(found)) if found else None

    def brief(self) -> Brief:
        rows = []
        for method in self.methods:
            means = [self.mean(method, kind) for kind in ("far", "near")]
            cells = ["–" if mean is None else f"{100 * mean:.1f}" for mean in means]
            rows.append([method, *cells, f"{100 * self.false_alarms[method].value:.1f}"])
        line = f"{self.known:,} known images, {100 * self.asked:g} % false alarms asked"
        return Brief(line, ("method", "far AUROC %", "near AUROC %", "false alarms %"), rows)

    @property
    def head(self) -> list[str]:
        """Of the columns of `rows`."""
        return [*_HEAD, *(["refused under attack %"] if self.attack else [])]

    @property
    def rows(self) -> list[list[str]]:
        """A row of words for each result, and for each method that of the known images."""
        rows = []
        for method in self.methods:
            own = [result for result in self.results if result.method == method]
            for result in own:
                cells = [method, result.name, result.kind, str(result.count)]
                cells += [x.words for x in (result.auroc, result.fpr95, result.refused)]
                rows.append(cells + _attacked(self.attack, result.attacked))
            cells = [method, "known images", "known", str(self.known), "", ""]
            cells.append(self.false_alarms[method].words)
            rows.append(cells + _attacked(self.attack, self.attacked_alarms.get(method)))
        return rows

    @property
    def findings(self) -> list[str]:
        """What the figures say, a sentence each."""
        found = []
        for method in self.methods:
            alarms = self.false_alarms[method]
            if not alarms.low <= self.asked <= alarms.high:
                found.append(
                    f"{method}: {alarms.words} % of the known images are refused, "
                    f"{100 * self.asked:g} % were asked."
                )
        for method in self.methods[:1] if "msp" in self.methods[1:] else ():
            for kind in ("far", "near"):
                own, control = self.mean(method, kind), self.mean("msp", kind)
                if own is not None and control is not None:
                    better = "more" if own > control else "not more"
                    found.append(
                        f"{method} tells {kind} images apart {better} than the control, the "
                        f"largest probability: AUROC {100 * own:.1f} against {100 * control:.1f} %."
                    )
        return found

    def to_json(self) -> dict[str, Any]:
        """All figures, JSON-serializable."""
        return {
            "results": [asdict(result) for result in self.results],
            "known": self.known,
            "false_alarm_rate": self.asked,
            "false_alarms": {name: asdict(value) for name, value in self.false_alarms.items()},
            "attacked_alarms": {n: asdict(value) for n, value in self.attacked_alarms.items()},
            "accuracy": self.accuracy,
            "accuracy_kept": dict(self.accuracy_kept),
            "attack": self.attack,
        }

    def to_csv(self) -> str:
        """A line for each result; shares in %, with the ends of their intervals."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        names = ["auroc", "fpr95", "refused", "attacked"]
        ends = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
        writer.writerow(["method", "set", "kind", "images", *ends])
        for result in self.results:
            cells: list[Any] = [result.method, result.name, result.kind, result.count]
            for name in names:
                value = getattr(result, name)
                parts = [] if value is None else [value.value, value.low, value.high]
                cells += [f"{100 * part:.4g}" for part in parts] or [""] * 3
            writer.writerow(cells)
        return text.getvalue()

    def to_markdown(self) -> str:
        """The same as a table."""
        lines = [
            "| " + " | ".join(self.head) + " |",
            "|" + "---|" * len(self.head),
            *("| " + " | ".join(row) + " |" for row in self.rows),
        ]
        return "\n".join(lines) + "\n"


def _attacked(attack: str | None, value: Interval | None) -> list[str]:
    if attack is None:
        return []
    return ["" if value is None else value.words]
