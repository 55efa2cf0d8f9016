"""Finds out what there is to say about one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from robustcls._progress import tqdm
from robustcls._validation import MultiHot
from robustcls.attacks import Attack
from robustcls.data.splits import Split
from robustcls.explanation.activation_maximization import class_images
from robustcls.explanation.examples.counterfactuals import counterfactuals
from robustcls.explanation.explainer import Explainer
from robustcls.explanation.methods.registry import METHODS
from robustcls.explanation.quality.assessment import assess
from robustcls.explanation.quality.table import quality_table
from robustcls.explanation.reports.examples import (
    ClassConcepts,
    find_class_concepts,
    find_nearest,
)
from robustcls.explanation.reports.given.images import ExplainedImages
from robustcls.explanation.reports.results import ModelResults

# More pictures of classes than that are no overview.
_MOST_CLASSES = 20


@dataclass(frozen=True, eq=False)
class Shown:
    """What a report shows besides images and maps.

    Attributes:
        classes: images that the model takes for its classes most.
        counterfactuals: the smallest changes to other classes.
        concepts: of classes.
        training: the images that the nearest are looked for among; None for none.
    """

    classes: bool = False
    counterfactuals: bool = False
    concepts: bool = False
    training: Split | None = None


def explain_one(
    name: str,
    explainer: Explainer,
    explained: ExplainedImages,
    attack: Attack | None,
    methods: Sequence[str],
    *,
    tested: ExplainedImages,
    measures: Sequence[str],
    shown: Shown,
    seed: int,
    progress: bool,
) -> ModelResults:
    """Finds out what there is to say about one model.

    Args:
        name: of the model.
        explainer: of it.
        explained: the images that are shown.
        attack: makes their twins; None for none.
        methods: of `Explainer`.
        tested: the images that methods are tested on.
        measures: names of `MEASURES`.
        shown: what else there is to be.
        seed: of everything random.
        progress: show progress bars.

    Raises:
        InputError: the model lacks what a method needs.
    """
    images, size = explained.images, explainer.batch_size
    probabilities = explainer.predict(images)
    predicted = probabilities.argmax(-1)
    adversarial = adversarial_probabilities = None
    if attack is not None:
        labels = predicted if explained.labels is None else explained.labels
        adversarial = attack(
            explainer.classifier, images, labels, batch_size=size, progress=progress
        ).adversarial
        adversarial_probabilities = explainer.predict(adversarial)
    maps, adversarial_maps = {}, {}
    for method in tqdm(methods, desc=name, unit="method", disable=not progress, leave=False):
        maps[method] = explainer(method, images, predicted)
        if adversarial is not None:
            adversarial_maps[method] = explainer(method, adversarial, predicted)
    quality, table = {}, None
    if len(tested.images):
        classes = explainer.predict(tested.images).argmax(-1)
        settings: dict[str, Any] = {"seed": seed, "progress": progress}
        quality = assess(explainer, methods, tested.images, classes, **settings)
        if measures:
            table = quality_table(
                explainer,
                methods,
                tested.images,
                classes,
                measures=measures,
                masks=tested.masks,
                **settings,
            )
    pictures = None
    if shown.classes:
        every = np.arange(min(probabilities.shape[1], _MOST_CLASSES))
        pictures = class_images(explainer, every, images.shape[1:], seed=seed)
    nearest = changed = None
    if shown.training is not None:
        nearest = find_nearest(explainer, images, shown.training, explained.class_names)
    if shown.counterfactuals:
        changed = counterfactuals(explainer, images, seed=seed)
    concepts: tuple[ClassConcepts, ...] = ()
    if shown.concepts:
        known = tested.images if len(tested.images) > len(images) else images
        concepts = find_class_concepts(explainer, known, attack, seed)
    return ModelResults(
        name=name,
        probabilities=probabilities,
        maps=maps,
        adversarial=adversarial,
        adversarial_probabilities=adversarial_probabilities,
        adversarial_maps=adversarial_maps,
        quality=quality,
        table=table,
        layer=explainer.layer if any(METHODS[name].uses_layer for name in methods) else None,
        class_images=pictures,
        nearest=nearest,
        counterfactuals=changed,
        concepts=concepts,
        several=isinstance(explained.labels, MultiHot),
    )
