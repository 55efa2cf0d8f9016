"""The page of familiarity: tables, histograms, and pictures with what they resemble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from robustcls.data.splits import Split
from robustcls.familiarity.evaluation import KNOWN
from robustcls.familiarity.familiarity import Familiarity
from robustcls.familiarity.results import FamiliarityReport
from robustcls.plots.figure import COLOURS, Plot
from robustcls.reports.gallery import Card, Page, Panel, Row, Section, Table, View
from robustcls.reports.pictures import data_uri, to_pixels
from robustcls.runs import versions

#: Pictures of each set on the page.
SHOWN = 6
_NEAREST = 3
TAGS = {"refused": "refused", "familiar": "taken for familiar"}


@dataclass(frozen=True, eq=False, kw_only=True)
class Judged:
    """One model's part of the page.

    Attributes:
        name: of the model.
        fitted: the method that is kept.
        report: its figures.
    """

    name: str
    fitted: Familiarity
    report: FamiliarityReport


def make_page(
    judged: Sequence[Judged],
    sets: Mapping[str, Split],
    train: Split,
    class_names: Sequence[str],
    *,
    title: str,
    source: str,
    settings: Mapping[str, str],
) -> Page:
    """Returns the page.

    Args:
        judged: the models.
        sets: the images by name, `known` among them.
        train: where the nearest training images are looked up.
        class_names: K names.
        title: what was judged, in words.
        source: where the known images come from.
        settings: name to value, for the end.
    """
    cards = []
    for name, split in sets.items():
        few = split.take(np.unique(np.linspace(0, len(split) - 1, SHOWN).astype(int)))
        views = [_views(model, few, train, class_names) for model in judged]
        for at, key in enumerate(few.ids):
            cards.append(
                Card(
                    title=f"{name}: {key}",
                    category=name,
                    views=[of_model[at] for of_model in views],
                )
            )
    sections = [
        Section(
            model.name,
            "Refused: below the threshold. FPR95: what passes where 95 % of the known images do.",
            tables=[Table(model.report.brief().line, model.report.head, model.report.rows)],
        )
        for model in judged
    ]
    return Page(
        title=f"Familiarity, {title}",
        summary=[f"{m.name}: {words}" for m in judged for words in m.report.findings],
        note=f"Known images: {source}.",
        cards=cards,
        order="how unfamiliar they are",
        sections=sections,
        tags=TAGS,
        facts={"Settings": settings, "Versions": versions()},
    )


def histograms(report: FamiliarityReport, fitted: Familiarity) -> Figure:
    """Returns the scores of the known images and of every set, with the threshold.

    Args:
        report: with the scores.
        fitted: whose method is shown.
    """
    scores = report.scores[fitted.method.registry_name]
    figure = Plot(6, 0.7 + 0.8 * len(scores))
    low, high = np.quantile(np.concatenate(list(scores.values())), (0.005, 0.995))
    edges = np.linspace(low, max(high, low + 1e-6), 60)
    rows = figure.subplots(len(scores), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, values) in zip(rows, scores.items(), strict=True):
        colour = COLOURS[0] if name == KNOWN else COLOURS[1]
        axes.hist(np.clip(values, low, edges[-1]), edges.tolist(), color=colour)
        axes.axvline(fitted.threshold, color="black", linestyle="--")
        axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
        axes.set_yticks([])
    rows[-1].set_xlabel(f"familiarity by {fitted.method.registry_name}; refused left of the line")
    return figure


def _views(model: Judged, few: Split, train: Split, class_names: Sequence[str]) -> list[View]:
    fitted = model.fitted
    features, logits = fitted.features(few)
    scores = fitted.score_features(features, logits)
    near = fitted.training.nearest(features, _NEAREST)
    views = []
    for at, score in enumerate(scores):
        familiar = score >= fitted.threshold
        panels = [Panel("the picture", _address(few.images[at]), f"{few.ids[at]}")]
        for place, key, cosine in zip(near.places[at], near.ids[at], near.cosines[at], strict=True):
            label = class_names[int(train.labels[place])]
            panels.append(Panel(f"{label}, {cosine:.3f}", _address(train.images[place]), str(key)))
        word = "familiar" if familiar else "refused"
        answer = class_names[int(logits[at].argmax())]
        views.append(
            View(
                group=model.name,
                heading=f"{word} ({score:.4g}, threshold {fitted.threshold:.4g}); {answer}",
                rank=float((fitted.threshold - score) / fitted.spread),
                tags=["familiar" if familiar else "refused"],
                rows=[Row("Beside the nearest training images, with the cosine", panels)],
            )
        )
    return views


def _address(image: np.ndarray) -> str:
    return data_uri(to_pixels(image.astype(np.float32) / 255))
