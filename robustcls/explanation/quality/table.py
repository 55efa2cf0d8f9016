"""Methods by measures, with intervals, and which of the maps may be believed."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robustcls._notebook import Brief, Briefly
from robustcls._progress import tqdm
from robustcls._validation import (
    InputError,
    as_names,
    check_choice,
    check_images,
    check_labels,
)
from robustcls.evaluation.intervals import Estimate, estimate
from robustcls.explanation.explainer import Explainer, Method
from robustcls.explanation.methods.registry import METHODS
from robustcls.explanation.quality.believing import Belief, belief
from robustcls.explanation.quality.measures.localization import check_masks
from robustcls.explanation.quality.measures.registry import MEASURES
from robustcls.explanation.quality.measures.trial import answers_alike, trials_of
from robustcls.explanation.quality.ranking import Ranking, ranking
from robustcls.explanation.quality.similarity import says_something
from robustcls.runs import write_text

# The share of images whose figure can be told, for a figure of all.
_ENOUGH = 0.5


@dataclass(frozen=True, eq=False, repr=False)
class QualityTable(Briefly):
    """What measures say of methods.

    Attributes:
        figures: of each image, float64 [N], by method and measure; NaN where it cannot be told.
        estimates: their means and 95 % intervals over images; None where it cannot be told for
            half of them.
        beliefs: by method, what may be believed and why.
        ranking: how sure the order of the methods is, and whether measures agree on it.
        count: of the images.
    """

    figures: dict[str, dict[str, np.ndarray]]
    estimates: dict[str, dict[str, Estimate | None]]
    beliefs: dict[str, Belief]
    ranking: Ranking
    count: int

    @property
    def measures(self) -> tuple[str, ...]:
        """The names of the measures."""
        return tuple(next(iter(self.estimates.values())))

    def brief(self) -> Brief:
        rows = [[method, found.words] for method, found in self.beliefs.items()]
        line = f"{len(rows)} methods, {len(self.measures)} measures, {self.count:,} images"
        return Brief(line, ("method", "may it be believed?"), rows)

    def rows(self) -> list[list[str]]:
        """A row of words for each method: its name, the figures, what may be believed."""
        return [
            [method, *(interval(found) for found in row.values()), self.beliefs[method].words]
            for method, row in self.estimates.items()
        ]

    def to_markdown(self) -> str:
        """The table, how to read it, and how sure the order of the methods is."""
        arrows = {name: "↑" if MEASURES[name].higher_is_better else "↓" for name in self.measures}
        head = ["method", *(f"{name} {arrows[name]}" for name in self.measures), "believe it?"]
        lines = [
            f"{self.count} images, 95 % bootstrap intervals; ↑ more is better, ↓ less.",
            "",
            f"| {' | '.join(head)} |",
            f"|{'---|' * len(head)}",
            *(f"| {' | '.join(row)} |" for row in self.rows()),
            "",
            *(f"- `{name}`: {MEASURES[name].words}." for name in self.measures),
            "",
            self.ranking.words,
        ]
        return "\n".join(lines) + "\n"

    def to_csv(self) -> str:
        """A line for each method and measure: mean, interval, images that it could be told for."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["method", "measure", "mean", "low", "high", "images", "best_of_resamples"])
        for method, row in self.estimates.items():
            for name, found in row.items():
                ends: Sequence[Any] = ("", "", "", 0)
                if found is not None:
                    ends = (found.mean, found.low, found.high, found.count)
                writer.writerow([method, name, *ends, self.ranking.first[name].get(method, "")])
        return stream.getvalue()

    def save(self, folder: Path | str, name: str = "verdict") -> None:
        """Writes `NAME.md` and `NAME.csv`.

        Args:
            folder: to write to; it is made where it is missing.
            name: of the files (str, default "verdict").
        """
        write_text(Path(folder) / f"{name}.md", self.to_markdown())
        write_text(Path(folder) / f"{name}.csv", self.to_csv())


def quality_table(
    explainer: Explainer,
    methods: Mapping[str, Method] | Sequence[str],
    images: np.ndarray,
    classes: np.ndarray,
    *,
    measures: Sequence[str] = (),
    masks: np.ndarray | None = None,
    seed: int = 0,
    progress: bool = False,
) -> QualityTable:
    """Measures methods on a model, and says which of their maps may be believed.

    Args:
        explainer: of the model.
        methods: names of `METHODS`, or methods of one's own by name: functions of images and
            classes to `Maps`, called with a batch at a time.
        images: float32 [N, H, W, C] in [0, 1].
        classes: int [N], the class explained for each image.
        measures: names of `MEASURES`; all that can be told if empty. `gain` and `randomization`,
            which belief rests on, are always among them (default ()).
        masks: bool [N, H, W], where what counts is known to be, for `pointing_game` and
            `mass_in_mask` (default None).
        seed: of everything random (int, default 0).
        progress: show a bar (bool, default False).

    Raises:
        InputError: no method, an unknown one or an unknown measure, masks that do not fit the
            images, a measure that needs masks without any; or as calling `explainer`.
    """
    images = check_images(images)
    classes = check_labels(classes, len(images), explainer.prepare(images), "classes")
    if masks is not None:
        masks = check_masks(masks, len(images), images.shape[1:3])
    if not isinstance(methods, Mapping):
        names = as_names(methods)
        methods = {name: check_choice("methods", name, METHODS) for name in names}
    if not methods:
        raise InputError(f"methods must be one or more of {', '.join(METHODS)}; received none.")
    names = _measures(as_names(measures), masks is not None)
    found: dict[str, dict[str, list[np.ndarray]]] = {
        name: {measure: [] for measure in names} for name in methods
    }
    empty = dict.fromkeys(methods, 0)
    has_weights = not answers_alike(explainer, images, seed)
    # A batch at a time, so that methods share what they ask of the model, and memory stays flat.
    size = explainer.batch_size
    for start in tqdm(
        range(0, len(images), size),
        desc="measures",
        unit="batch",
        disable=not progress,
        leave=False,
    ):
        part = slice(start, start + size)
        given = images[part], classes[part], None if masks is None else masks[part]
        with explainer.shared.open():
            for name, trial in trials_of(explainer, methods, *given, seed, has_weights).items():
                nothing = ~says_something(trial.maps.relevance)
                empty[name] += int(nothing.all(axis=(1, 2)).sum())
                for measure in names:
                    found[name][measure].append(MEASURES[measure].function(trial))
    figures = {
        method: {measure: np.concatenate(parts) for measure, parts in row.items()}
        for method, row in found.items()
    }
    estimates = {
        method: {measure: _estimate(values, seed) for measure, values in row.items()}
        for method, row in figures.items()
    }
    return QualityTable(
        figures,
        estimates,
        {
            method: belief(row, empty=empty[method], count=len(images))
            for method, row in estimates.items()
        },
        ranking(figures, seed),
        len(images),
    )


def interval(found: Estimate | None) -> str:
    """Returns a figure in words.

    Args:
        found: None where it cannot be told.
    """
    if found is None:
        return "–"
    return f"{found.mean:.2f} ({found.low:.2f} to {found.high:.2f})".replace("-", "−")


def _estimate(values: np.ndarray, seed: int) -> Estimate | None:
    told = values[np.isfinite(values)]
    return None if len(told) < max(1, _ENOUGH * len(values)) else estimate(told, seed)


def _measures(given: Sequence[str], with_masks: bool) -> tuple[str, ...]:
    if not given:
        return tuple(name for name in MEASURES if with_masks or not MEASURES[name].needs_masks)
    for name in given:
        check_choice("measures", name, MEASURES)
        if MEASURES[name].needs_masks and not with_masks:
            raise InputError(f"masks must be given for the measure {name}; received None.")
    return tuple(dict.fromkeys(("gain", "randomization", *given)))
