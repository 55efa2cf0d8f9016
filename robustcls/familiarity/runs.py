"""Familiarity of the models of a run, or of a model file: fitted, measured, on a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustcls._progress import tqdm
from robustcls._settings import NonNegativeInt, PositiveInt, Rate, checked
from robustcls._validation import InputError
from robustcls.attacks.base import Attack, adapt
from robustcls.classifiers.ranges import InputRange
from robustcls.data.sources import load
from robustcls.data.splits import Split, Splits
from robustcls.evaluation.prediction import subset
from robustcls.evaluation.runs.data import load_run_splits, resizing
from robustcls.familiarity.evaluation import KNOWN, evaluate
from robustcls.familiarity.familiarity import FILE
from robustcls.familiarity.fitting import gather
from robustcls.familiarity.page import Judged, histograms, make_page
from robustcls.familiarity.registry import METHODS
from robustcls.familiarity.sets import load_sets
from robustcls.models.building import load_classifier
from robustcls.reports.evaluations import link_pages
from robustcls.reports.gallery import write_gallery
from robustcls.runs import Run, atomic, write_json, write_text

PAGE = "familiarity.html"


@dataclass(frozen=True, eq=False, kw_only=True)
class FamiliarityFiles:
    """What `judge_run` wrote.

    Attributes:
        page: the page.
        judged: the models with their figures.
        left_out: sentences that name the unreadable files that were left out (default ()).
    """

    page: Path
    judged: tuple[Judged, ...]
    left_out: tuple[str, ...] = ()


def judge_run(run: Run | Path | str, **settings: Any) -> FamiliarityFiles:
    """Fits familiarity to every trained model of a run, and measures it.

    Writes `familiarity.npz` beside each model, which an export of it carries, and into the run's
    report `familiarity.html`, and by model `familiarity_MODEL` as json, csv, md and png.

    Args:
        run: a run of `robustcls train`, or its folder.
        **settings: of `judge`.

    Raises:
        InputError: there is no run, no trained model in it, its images have changed, or as `judge`.
    """
    run = Run.open(run)
    run.require_trained(kind="classifier")
    models = {name: load_classifier(run.folder(name) / "model.keras") for name in run.trained}
    splits = load_run_splits(run)
    kept = {name: run.folder(name) / FILE for name in models}
    written = judge(models, splits, run.path / "report", kept, title=run.path.name, **settings)
    link_pages(run.path)
    return written


def judge_model_file(
    model: Path | str,
    data: str,
    *,
    out: Path | str | None = None,
    input_range: InputRange | None = None,
    output: str | None = None,
    skip_bad_images: bool = False,
    **settings: Any,
) -> FamiliarityFiles:
    """The same for a saved model.

    Args:
        model: a `.keras` file or a SavedModel folder.
        data: what `robustcls.load` takes: the images that the model was trained on.
        out: the folder of the results; NAME-familiarity beside the model by default (default None).
        input_range: as for `fit` (default None).
        output: as for `fit` (str or None, default None).
        skip_bad_images: leave unreadable files out and name them (bool, default False).
        **settings: of `judge`.

    Raises:
        InputError: the model or the images cannot be loaded, or as `judge`.
    """
    path = Path(model)
    classifier = adapt(path, input_range=input_range, output=output)
    folder = Path(f"{path.with_suffix('')}-familiarity") if out is None else Path(out)
    kept = {"model": folder / FILE}
    splits = load(data, skip_bad_images=skip_bad_images, **resizing(classifier))
    settings |= {"title": path.name, "skip_bad_images": skip_bad_images}
    return judge({"model": classifier}, splits, folder, kept, **settings)


@checked
def judge(
    models: dict[str, Any],
    splits: Splits,
    folder: Path,
    kept: dict[str, Path],
    *,
    title: str,
    methods: Sequence[str] = (),
    far: Sequence[str] = ("noise", "flat"),
    near: Sequence[str] = (),
    false_alarm_rate: Rate = 0.05,
    attack: Attack | None = None,
    attack_limit: PositiveInt = 200,
    limit: PositiveInt | None = 1000,
    batch_size: PositiveInt = 128,
    seed: NonNegativeInt = 0,
    skip_bad_images: bool = False,
    progress: bool = False,
) -> FamiliarityFiles:
    """Fits and measures, and writes what was found.

    Args:
        models: classifiers by name.
        splits: the images that they were trained on, the test images among them.
        folder: where the page and the tables go.
        kept: by model, the file that its first method is kept in.
        title: what is judged, in words.
        methods: names of `METHODS`, the first of which is kept; all of them by default (default
            ()).
        far: unfamiliar sets, as for `load_sets` (default ("noise", "flat")).
        near: the same of classes like the known ones (default ()).
        false_alarm_rate: share of known images that may be refused (float in (0, 1), default 0.05).
        attack: on the score of the kept method (Attack or None, default None).
        attack_limit: images of each set that are attacked (int >= 1, default 200).
        limit: test images, and images of each set, at most; None takes all (int >= 1 or None,
            default 1000).
        batch_size: images a forward pass (int >= 1, default 128).
        seed: of everything random (int >= 0, default 0).
        skip_bad_images: leave unreadable files of the unfamiliar sets out and name them (bool,
            default False).
        progress: show a bar (bool, default False).

    Raises:
        InputError: there is no such set or method, or too few images for the rate.
    """
    names = list(dict.fromkeys(methods)) or list(METHODS)
    for name in names:
        METHODS.find(name, "methods")
    if not far and not near:
        raise InputError("far or near must name a set; received none.")
    shape = splits.image_shape
    both, left_out = [], list(splits.left_out)
    for given in (far, near):
        found = load_sets(given, shape, limit=limit, seed=seed, skip_bad_images=skip_bad_images)
        both.append(found.splits)
        left_out += found.left_out
    if both[0].keys() & both[1].keys():
        name = min(both[0].keys() & both[1].keys())
        raise InputError(f"a set must be far or near; received {name!r} for both.")
    test = splits.test.take(subset(len(splits.test), limit, seed))
    judged = []
    for name, model in tqdm(models.items(), desc="familiarity", disable=not progress, leave=False):
        material = gather(
            model, splits, false_alarm_rate=false_alarm_rate, seed=seed, batch_size=batch_size
        )
        fitted = [material.fit(method) for method in names]
        report = evaluate(
            fitted,
            test,
            far=both[0],
            near=both[1],
            attack=attack,
            attack_limit=attack_limit,
            batch_size=batch_size,
        )
        fitted[0].save(kept[name])
        stem = f"familiarity_{name}"
        write_json(folder / f"{stem}.json", report.to_json())
        write_text(folder / f"{stem}.csv", report.to_csv())
        write_text(folder / f"{stem}.md", report.to_markdown())
        with atomic(folder / f"{stem}.png") as temporary:
            histograms(report, fitted[0]).savefig(temporary, format="png")
        judged.append(Judged(name=name, fitted=fitted[0], report=report))
    page = make_page(
        judged,
        _titled(test, *both),
        splits.train,
        splits.class_names,
        title=title,
        source=splits.source,
        settings={
            "methods": ", ".join(names),
            "false alarms asked": f"{100 * false_alarm_rate:g} %",
            "attack": "none" if attack is None else str(judged[0].report.attack),
            "images of a set at most": str(limit),
            "seed": str(seed),
            "unreadable files": " ".join(dict.fromkeys(left_out)) or "none left out",
        },
    )
    write_gallery(page, folder / PAGE)
    left_out = list(dict.fromkeys(left_out))
    return FamiliarityFiles(page=folder / PAGE, judged=tuple(judged), left_out=tuple(left_out))


def _titled(test: Split, far: dict[str, Split], near: dict[str, Split]) -> dict[str, Split]:
    titled = {f"far {name}": split for name, split in far.items()}
    titled |= {f"near {name}": split for name, split in near.items()}
    return {KNOWN: test, **titled}
