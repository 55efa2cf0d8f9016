"""`explain`: maps, their quality and a report, for one model or several side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from robustcls._notebook import Brief, Briefly
from robustcls._settings import Choice, NonNegativeInt, PositiveInt, checked
from robustcls._validation import InputError, as_names, check_choice
from robustcls.attacks import Attack
from robustcls.classifiers.ranges import InputRange, Preprocess
from robustcls.data.splits import Split, Splits
from robustcls.explanation.explainer import Explainer
from robustcls.explanation.methods.registry import METHODS
from robustcls.explanation.reports.finding import Shown, explain_one
from robustcls.explanation.reports.given.arguments import (
    check_attack,
    check_measures,
    check_writable,
    named_models,
)
from robustcls.explanation.reports.given.images import (
    ExplainedImages,
    explained_images,
    require_fitting,
)
from robustcls.explanation.reports.given.selection import ONLY, choose, in_words
from robustcls.explanation.reports.page import make_page
from robustcls.explanation.reports.results import ModelResults
from robustcls.reports.gallery import write_gallery
from robustcls.runs import write_text

Find = Callable[[], ModelResults]
"""Finds out what there is to say about one model."""
DEFAULT_METHODS = ("gradients", "grad_cam")
REPORT = "explanations.html"
RECORDS = "explanations.jsonl"


@dataclass(frozen=True, eq=False, repr=False)
class Explanations(Briefly):
    """What `explain` made.

    Attributes:
        path: the report.
        explained: the images it shows.
        models: what was found out about each model.
    """

    path: Path
    explained: ExplainedImages
    models: tuple[ModelResults, ...]

    def brief(self) -> Brief:
        rows = []
        for model in self.models:
            known = self.explained.labels is not None
            right = str(int(self.explained.right(model.probabilities).sum())) if known else "–"
            turned = "–" if model.adversarial is None else str(int(model.flipped.sum()))
            rows.append([model.name, right, turned, ", ".join(model.maps)])
        line = f"{len(self.explained.ids):,} images, {self.path}"
        return Brief(line, ("model", "right", "turned", "maps"), rows, self.path)

    @property
    def records(self) -> list[dict[str, Any]]:
        """The entries of `explanations.jsonl`: one for each model and image."""
        return [record for model in self.models for record in model.records(self.explained)]

    @property
    def subject(self) -> ExplainedImages:
        """What `explained` was called in 0.1."""
        return self.explained


@checked
def explain(
    model: Any,
    data: Splits | Split | tuple[np.ndarray, np.ndarray | None],
    out: Path | str,
    *,
    attack: Attack | None = None,
    methods: Sequence[str] = DEFAULT_METHODS,
    limit: PositiveInt = 24,
    only: Annotated[str, Choice(ONLY)] = "all",
    classes: Sequence[str] = (),
    class_names: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
    layer: str | None = None,
    quality_limit: NonNegativeInt = 40,
    measures: Sequence[str] = (),
    masks: np.ndarray | None = None,
    show_classes: bool = False,
    show_neighbors: bool = False,
    show_counterfactuals: bool = False,
    show_concepts: bool = False,
    training: Split | None = None,
    batch_size: PositiveInt = 32,
    seed: NonNegativeInt = 0,
    source: str | None = None,
    accuracies: Mapping[str, Mapping[str, float]] | None = None,
    facts: Mapping[str, Mapping[str, str]] | None = None,
    preprocess: Preprocess | None = None,
    input_range: InputRange | None = None,
    output: str | int | None = None,
    results_of: Callable[[str, Find], ModelResults | None] | None = None,
    progress: bool = False,
) -> Explanations:
    """Writes a report on why a model decides as it does, and what an attack does to that.

    `out/explanations.html` shows each image with the maps of the class the model predicts, and
    the same maps of its attacked twin on the same scale; `out/explanations.jsonl` holds the
    figures, an entry for each model and image; `out/maps/MODEL.npz` the raw maps. Files are
    written when a model is done, the page when all are.

    Args:
        model: a Keras classifier of any form that `attacks.adapt` takes (a trainer, a `.keras`
            file, a run, ...), or what it returned of one; or several by name, the reference first.
        data: `Splits` (its test part is used), a split, or (images float32 [N, H, W, C] in
            [0, 1], labels int [N], multi-hot rows [N, classes] or None). An image of several
            classes counts as right when every class is answered right.
        out: the folder.
        attack: makes the twins; None shows images and maps alone. It attacks the labels where they
            are known, else what the model predicts (default None).
        methods: of `Explainer` (default ("gradients", "grad_cam")).
        limit: images at most, chosen at random (int >= 1, default 24).
        only: "correct", "wrong" or "flipped" (the attack changes a right prediction) by the first
            model, or "all" ("all", "correct", "wrong" or "flipped", default "all").
        classes: names of the classes to choose from; all when empty (default ()).
        class_names: one name a class id; those of `Splits`, or numbers (default None).
        ids: a name for each image in place of the split's (default None).
        layer: for class activation maps; see `Explainer` (str or None, default None).
        quality_limit: images for the tests of the methods, of which `limit` are shown; 0 leaves the
            tests out (int >= 0, default 40).
        measures: names of `MEASURES`, or ("all",): also measures the methods by these on the same
            images, and says which maps may be believed and why; `out/verdict/MODEL.md` and `.csv`
            hold the figures (default ()).
        masks: bool [N, H, W], where what counts is known to be in the images of `data`; then
            `pointing_game` and `mass_in_mask` are among the measures, and are measured where none
            is named (default None).
        show_classes: also make the images that each model takes for a class most (bool, default
            False).
        show_neighbors: also show the training images that are most like each image to the model
            (bool, default False).
        show_counterfactuals: also look for the smallest change of each image to the likeliest other
            class (bool, default False).
        show_concepts: also take the feature maps of the commonest classes apart, and say what each
            part counts before and after the attack (bool, default False).
        training: the images of `show_neighbors`; the training part of `Splits` if None (default
            None).
        batch_size: images a model sees at a time (int >= 1, default 32).
        seed: of everything random (int >= 0, default 0).
        source: where the images come from, in words (str or None, default None).
        accuracies: in [0, 1] of each model, by name, that were measured elsewhere (default None).
        facts: name to value under a title, for the end of the report (default None).
        preprocess: what the models want done to images in [0, 1] first (default None).
        input_range: what the models want 0 and 1 to be, for example (0, 255) or (-1, 1), instead of
            `preprocess` (default None).
        output: name or number of the output to explain, of models with several (str, int or None,
            default None).
        results_of: gives the results of a model, by its name and what finds them out. Where it
            gives None no report is written: other processes know the others (default None).
        progress: show progress bars (bool, default False).

    Raises:
        InputError: an unusable argument, a folder that cannot be written, or no image is left.
    """
    models = named_models(model)
    methods = tuple(check_choice("methods", name, METHODS) for name in as_names(methods))
    if not methods:
        raise InputError(f"methods must be one or more of {', '.join(METHODS)}; received none.")
    check_attack(attack, only)
    measures = check_measures(measures, quality_limit, with_masks=masks is not None)
    if show_neighbors:
        training = data.train if training is None and isinstance(data, Splits) else training
        if training is None:
            raise InputError("training must be a Split for show_neighbors; received None.")
    shown = Shown(
        classes=show_classes,
        counterfactuals=show_counterfactuals,
        concepts=show_concepts,
        training=training if show_neighbors else None,
    )
    out = Path(out)
    check_writable(out)
    everything = explained_images(data, class_names, ids, masks)
    if everything.labels is None and only in ("correct", "wrong"):
        raise InputError(
            f"only must be 'all' or 'flipped' for images without labels; got {only!r}."
        )
    explainers = {
        name: Explainer(
            given,
            layer=layer,
            batch_size=batch_size,
            seed=seed,
            preprocess=preprocess,
            input_range=input_range,
            output=output,
        )
        for name, given in models.items()
    }
    if everything.labels is not None:
        for explainer in explainers.values():
            explainer.prepare(everything.images)
            require_fitting(everything, explainer.classifier)
    chosen = choose(
        everything,
        next(iter(explainers.values())),
        attack,
        limit=max(limit, quality_limit) + 1,  # one more tells whether these are all
        only=only,
        classes=classes,
        seed=seed,
    )
    explained, tested = (
        chosen.take(np.arange(min(most, len(chosen.images)))) for most in (limit, quality_limit)
    )
    if tested.masks is not None and not tested.masks.any():
        raise InputError(
            f"masks must mark something in the {len(tested.images)} images that methods are tested "
            "on; none does. Did you mean a larger quality_limit, or classes=[...]?"
        )

    found: list[ModelResults] = []
    entries: list[str] = []
    for name, explainer in explainers.items():
        find = partial(
            explain_one,
            name,
            explainer,
            explained,
            attack,
            methods,
            tested=tested,
            measures=measures,
            shown=shown,
            seed=seed,
            progress=progress,
        )
        results = find() if results_of is None else results_of(name, find)
        if results is None:
            continue
        results.save_maps(explained, out / "maps" / f"{name}.npz")
        if results.table is not None:
            results.table.save(out / "verdict", name)
        entries += [json.dumps(record, allow_nan=False) for record in results.records(explained)]
        write_text(out / RECORDS, "\n".join(entries) + "\n")
        found.append(results)
    if len(found) < len(explainers):
        return Explanations(out / REPORT, explained, tuple(found))
    counts = [len(part.ids) for part in (explained, chosen, everything)]
    page = make_page(
        explained,
        found,
        attack,
        selected=in_words(only, classes, *counts),
        source=source or (data.source if isinstance(data, Splits) else "given as arrays"),
        seed=seed,
        accuracies=accuracies or {},
        settings={
            "methods": ", ".join(methods),
            "images": str(len(explained.ids)),
            "seed": str(seed),
            "batch size": str(batch_size),
        },
        facts=facts or {},
    )
    write_gallery(page, out / REPORT)
    return Explanations(out / REPORT, explained, tuple(found))
