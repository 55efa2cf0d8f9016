"""`ModelResults`: what was found out about one model, before it becomes a page."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from robustcls._notebook import Brief, Briefly
from robustcls.explanation.examples.counterfactuals import Counterfactuals
from robustcls.explanation.methods.maps import Maps
from robustcls.explanation.quality.assessment import Quality
from robustcls.explanation.quality.similarity import spearman, ssim
from robustcls.explanation.quality.table import QualityTable
from robustcls.explanation.reports.examples import ClassConcepts, NearestPictures
from robustcls.explanation.reports.given.images import ExplainedImages
from robustcls.runs import atomic

TOP = 5


@dataclass(frozen=True, eq=False, repr=False)
class ModelResults(Briefly):
    """What one model says about the images.

    Attributes:
        name: of the model.
        probabilities: float32 [N, classes], for the images as they are.
        maps: by method, for the class predicted.
        adversarial: float32 [N, H, W, C], the attacked twins; None without an attack.
        adversarial_probabilities: float32 [N, classes], for the twins.
        adversarial_maps: by method, for the class predicted before the attack.
        quality: by method; empty when not measured.
        layer: whose feature map class activation maps weigh; None when there are none.
        class_images: float32 [classes, H, W, C], by activation maximization; None when not made.
        table: of methods and measures; None when not measured.
        nearest: training images; None when not looked for.
        counterfactuals: the smallest changes to other classes; None when not looked for.
        concepts: of classes; empty when not looked for.
        several: the images can be of several classes, to each of which the model says yes or no
            (default False).
    """

    name: str
    probabilities: np.ndarray
    maps: dict[str, Maps]
    adversarial: np.ndarray | None
    adversarial_probabilities: np.ndarray | None
    adversarial_maps: dict[str, Maps]
    quality: dict[str, Quality]
    layer: str | None
    class_images: np.ndarray | None = None
    table: QualityTable | None = None
    nearest: NearestPictures | None = None
    counterfactuals: Counterfactuals | None = None
    concepts: tuple[ClassConcepts, ...] = ()
    several: bool = False

    def brief(self) -> Brief:
        line = f"{self.name}: {len(self.predicted):,} images, maps {', '.join(self.maps)}"
        if self.adversarial is not None:
            line += f"; {int(self.flipped.sum())} turned"
        return Brief(line)

    @property
    def predicted(self) -> np.ndarray:
        """int64 [N], the classes that the maps explain."""
        return self.probabilities.argmax(-1)

    @property
    def drop(self) -> np.ndarray:
        """Float [N], how much of the predicted class's probability the attack takes."""
        own = np.take_along_axis(self.probabilities, self.predicted[:, None], 1)[:, 0]
        if self.adversarial_probabilities is None:
            return 1 - own
        after = np.take_along_axis(self.adversarial_probabilities, self.predicted[:, None], 1)
        return own - after[:, 0]

    @property
    def flipped(self) -> np.ndarray:
        """Bool [N], the attack changes the prediction."""
        if self.adversarial_probabilities is None:
            return np.zeros(len(self.predicted), bool)
        if self.several:
            yes, after = (p > 0.5 for p in (self.probabilities, self.adversarial_probabilities))
            return (yes != after).any(-1)
        return self.adversarial_probabilities.argmax(-1) != self.predicted

    @cached_property
    def similarities(self) -> dict[str, dict[str, np.ndarray]]:
        """Spearman's rank correlation and SSIM of the maps before and after, by method.

        NaN where the maps have too little to compare.
        """
        return {
            method: {
                "spearman": spearman(maps.signed, self.adversarial_maps[method].signed),
                "ssim": ssim(maps, self.adversarial_maps[method]),
            }
            for method, maps in self.maps.items()
            if method in self.adversarial_maps
        }

    def records(self, explained: ExplainedImages) -> list[dict[str, Any]]:
        """A JSON-serializable entry for each image."""
        similarities = self.similarities
        right = None if explained.labels is None else explained.right(self.probabilities)
        entries = []
        for at, name in enumerate(explained.ids):
            entry: dict[str, Any] = {
                "id": str(name),
                "model": self.name,
                "row": at,
                "label": explained.label(at),
                "label_name": explained.label_name(at),
                "explained": int(self.predicted[at]),
                "clean": _top(self.probabilities[at], explained),
                "correct": None if right is None else bool(right[at]),
            }
            if self.adversarial_probabilities is not None:
                entry["adversarial"] = _top(self.adversarial_probabilities[at], explained)
                entry["confidence_drop"] = float(self.drop[at])
                entry["flipped"] = bool(self.flipped[at])
            entry["maps"] = {
                method: {
                    "largest": float(maps.size[at]),
                    **{
                        key: float(found[at]) if np.isfinite(found[at]) else None
                        for key, found in similarities.get(method, {}).items()
                    },
                }
                for method, maps in self.maps.items()
            }
            if self.nearest is not None:
                entry["nearest"] = [
                    {"id": str(other), "label_name": str(label), "cosine": float(cosine)}
                    for other, label, cosine in zip(
                        self.nearest.ids[at],
                        self.nearest.labels[at],
                        self.nearest.similarities[at],
                        strict=True,
                    )
                ]
            if self.counterfactuals is not None:
                entry["counterfactual"] = {
                    "class": int(self.counterfactuals.targets[at]),
                    "distance": float(self.counterfactuals.distances[at])
                    if self.counterfactuals.success[at]
                    else None,
                }
            entries.append(entry)
        return entries

    def save_maps(self, explained: ExplainedImages, path: Path | str) -> None:
        """Writes the raw maps and the images as `.npz`, whole or not at all.

        Arrays are float32 [N, H, W], named METHOD_positive and METHOD_negative, with
        `adversarial_` before those of the twins; `images` and `adversarial` are float32
        [N, H, W, C] in [0, 1], `explained` int64 [N], `ids` str [N].
        """
        arrays: dict[str, Any] = {
            "images": explained.images,
            "ids": explained.ids,
            "explained": self.predicted,
        }
        if self.adversarial is not None:
            arrays["adversarial"] = self.adversarial
        if self.counterfactuals is not None:
            arrays["counterfactuals"] = self.counterfactuals.images
        if self.class_images is not None:
            arrays["class_images"] = self.class_images
        for prefix, found in (("", self.maps), ("adversarial_", self.adversarial_maps)):
            for method, maps in found.items():
                arrays[f"{prefix}{method}_positive"] = maps.positive
                if maps.negative is not None:
                    arrays[f"{prefix}{method}_negative"] = maps.negative
        with atomic(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)


def _top(probabilities: np.ndarray, explained: ExplainedImages) -> list[dict[str, Any]]:
    order = np.argsort(-probabilities, kind="stable")[:TOP]
    return [
        {"class": int(label), "name": explained.name(int(label)), "probability": float(p)}
        for label, p in zip(order, probabilities[order], strict=True)
    ]
