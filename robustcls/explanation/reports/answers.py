"""What a report shows of one image and one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from robustcls.explanation.methods.maps import Maps
from robustcls.explanation.reports.examples import NEAREST
from robustcls.explanation.reports.given.images import ExplainedImages
from robustcls.explanation.reports.results import TOP, ModelResults
from robustcls.reports.gallery import Bar, Panel, Row, Table, View
from robustcls.reports.pictures import (
    HEAT,
    NEGATIVE,
    POSITIVE,
    amplifying_factor,
    data_uri,
    overlay,
    smaller,
    to_colours,
    to_pixels,
)

# What the pictures of a whole report may take, and one picture.
_MOST_BYTES = 11_000_000
_PICTURE_BYTES = 40_000


def amplification(explained: ExplainedImages, models: Sequence[ModelResults]) -> int:
    """Returns the factor that amplifies the changes of all models."""
    changes = [
        float(np.abs(model.adversarial - explained.images).max())
        for model in models
        if model.adversarial is not None
    ]
    return amplifying_factor(np.array(changes))


def bytes_for_each(models: Sequence[ModelResults]) -> int:
    """Returns how large a picture may be for the whole report to stay below 20 MB."""
    pictures = 0
    for model in models:
        maps = (*model.maps.values(), *model.adversarial_maps.values())
        shown = sum(1 if found.negative is None else 2 for found in maps)
        shown += 1 if model.adversarial is None else 3
        shown += 0 if model.nearest is None else NEAREST
        shown += 0 if model.counterfactuals is None else 2
        pictures += len(model.predicted) * shown
    return min(_PICTURE_BYTES, _MOST_BYTES // pictures)


class AnswerViews:
    """Makes the views of one model.

    Args:
        explained: the images.
        model: what was found out about it.
        factor: by which changes are amplified.
        most_bytes: of a picture.
        orders: float [N], by what images can be sorted; NaN where it cannot be told.
    """

    def __init__(
        self,
        explained: ExplainedImages,
        model: ModelResults,
        factor: int,
        most_bytes: int,
        orders: Mapping[str, np.ndarray],
    ) -> None:
        self.explained, self.model = explained, model
        self.factor, self.most_bytes, self.orders = factor, most_bytes, orders
        self.similarities = model.similarities
        self.right = None if explained.labels is None else explained.right(model.probabilities)

    def view(self, at: int) -> View:
        """Returns the view of the image at that index."""
        model = self.model
        heading = self._answer(model.probabilities[at])
        tags = []
        if model.adversarial_probabilities is not None:
            heading += f" → {self._answer(model.adversarial_probabilities[at])}"
            tags.append("flipped" if model.flipped[at] else "held")
        if self.right is not None:
            tags.append("correct" if self.right[at] else "wrong")
        return View(
            group=model.name,
            heading=heading,
            rank=round(float(model.drop[at]), 6),
            ranks={
                name: round(float(found[at]), 6)
                for name, found in self.orders.items()
                if np.isfinite(found[at])
            },
            answer=self.explained.name(int(model.predicted[at])),
            tags=tags,
            rows=[
                self._photographs(at),
                *(self._maps(method, at) for method in model.maps),
                *self._examples(at),
            ],
            tables=[self._top(at)],
        )

    def _answer(self, probabilities: np.ndarray) -> str:
        best = int(probabilities.argmax())
        return f"{self.explained.name(best)}, {100 * float(probabilities[best]):.1f} %"

    def _panel(self, at: int, caption: str, pixels: np.ndarray, alt: str) -> Panel:
        words = f"{self.explained.ids[at]}, {self.model.name}: {alt}"
        return Panel(caption, data_uri(pixels, most_bytes=self.most_bytes), words)

    def _photographs(self, at: int) -> Row:
        image = self.explained.images[at]
        answer = self._answer(self.model.probabilities[at])
        panels = [self._panel(at, "as it is", to_pixels(image), f"the image, taken for {answer}")]
        if self.model.adversarial is None or self.model.adversarial_probabilities is None:
            return Row("Image", panels)
        twin = self.model.adversarial[at]
        answer = self._answer(self.model.adversarial_probabilities[at])
        change = 0.5 + self.factor * (twin - image)
        panels += [
            self._panel(at, "attacked", to_pixels(twin), f"the attacked image, taken for {answer}"),
            self._panel(
                at,
                f"change × {self.factor}",
                to_pixels(change),
                f"what the attack changed, amplified {self.factor} times; gray is no change",
            ),
        ]
        return Row("Image", panels)

    def _maps(self, method: str, at: int) -> Row:
        maps, twins = self.model.maps[method], self.model.adversarial_maps.get(method)
        name = self.explained.name(int(self.model.predicted[at]))
        scale = max(float(found.size[at]) for found in (maps, twins) if found is not None)
        panels = self._map_panels(method, at, "clean", maps, self.explained.images[at], scale)
        note = ""
        if twins is not None and self.model.adversarial is not None:
            twin = self.model.adversarial[at]
            panels += self._map_panels(method, at, "attacked", twins, twin, scale)
            found = self.similarities[method]
            words = [
                f"{title} {_figure(found[key][at])}"
                for key, title in (("spearman", "Spearman"), ("ssim", "SSIM"))
            ]
            note = f"Before and after: {', '.join(words)}."
        if maps.negative is None:
            bars = [Bar(HEAT, "0", f"{scale:.3g}")]
        else:
            bars = [Bar(POSITIVE, "+ 0", f"{scale:.3g}"), Bar(NEGATIVE, "− 0", f"{scale:.3g}")]
        return Row(f"{method}, {name}", panels, bars, note)

    def _map_panels(
        self, method: str, at: int, kind: str, maps: Maps, image: np.ndarray, scale: float
    ) -> list[Panel]:
        scale = scale or 1.0
        about = f"{method} of the {kind} image, largest value {maps.size[at]:.3g}"
        if maps.negative is None:
            gray = smaller(image.mean(axis=-1), self.most_bytes)[..., None]
            heat = smaller(maps.positive[at], self.most_bytes)
            return [self._panel(at, kind, overlay(gray, heat / scale, HEAT), about)]
        return [
            self._panel(
                at,
                f"{kind}, {sign}",
                to_colours(smaller(part[at], self.most_bytes) / scale, ramp),
                f"{about}, {words}",
            )
            for sign, words, part, ramp in (
                ("+", "what speaks for the class", maps.positive, POSITIVE),
                ("−", "what speaks against the class", maps.negative, NEGATIVE),
            )
        ]

    def _examples(self, at: int) -> list[Row]:
        """The nearest training images, and the smallest change to another class."""
        rows = []
        if self.model.nearest is not None:
            rows.append(self.model.nearest.row(at, self.most_bytes))
        found = self.model.counterfactuals
        if found is not None:
            title = f"Smallest change to {self.explained.name(int(found.targets[at]))}"
            if not found.success[at]:
                return [*rows, Row(title, [], note="None was found.")]
            change = found.images[at] - self.explained.images[at]
            factor = amplifying_factor(change)
            panels = [
                self._panel(at, "changed", to_pixels(found.images[at]), title),
                self._panel(
                    at,
                    f"change × {factor}",
                    to_pixels(0.5 + factor * change),
                    f"{title}, amplified {factor} times; gray is no change",
                ),
            ]
            rows.append(Row(title, panels, note=f"L2 {found.distances[at]:.3g}."))
        return rows

    def _top(self, at: int) -> Table:
        """The top classes before and after, with the probabilities of both."""
        before, after = self.model.probabilities[at], self.model.adversarial_probabilities
        order = list(np.argsort(-before, kind="stable")[:TOP])
        if after is None:
            rows = [[self.explained.name(int(k)), f"{100 * before[k]:.1f}"] for k in order]
            return Table("Top classes, probability in %", ["class", "image"], rows)
        order += [k for k in np.argsort(-after[at], kind="stable")[:TOP] if k not in order]
        rows = [
            [
                self.explained.name(int(k)),
                _ranked(before, int(k)),
                _ranked(after[at], int(k)),
            ]
            for k in order
        ]
        return Table(
            f"Top {min(TOP, len(before))} before and after, probability in % (rank)",
            ["class", "as it is", "attacked"],
            rows,
        )


def _ranked(probabilities: np.ndarray, label: int) -> str:
    rank = 1 + int((probabilities > probabilities[label]).sum())
    return f"{100 * probabilities[label]:.1f} ({rank})"


def _figure(value: float) -> str:
    return f"{value:.2f}".replace("-", "−") if np.isfinite(value) else "not told by so little"
