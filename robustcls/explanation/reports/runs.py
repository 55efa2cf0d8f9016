"""Explains the models of a run: on its test images, or on pictures of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robustcls._validation import InputError
from robustcls.attacks import Attack
from robustcls.classifiers.ranges import InputRange
from robustcls.data.decoding import FileReader, probe, read_image
from robustcls.data.files import named_files
from robustcls.evaluation.runs.data import load_run_splits
from robustcls.evaluation.runs.models import models_of_file
from robustcls.explanation.reports.given.beside import models_beside
from robustcls.explanation.reports.given.masks import read_masks
from robustcls.explanation.reports.report import DEFAULT_METHODS, Explanations, explain
from robustcls.files import read_sealed
from robustcls.models.building import load_classifier
from robustcls.reports.evaluations import link_pages
from robustcls.runs import METRICS, Run


def explain_run(
    run: Run | Path | str,
    *,
    images: Sequence[Path | str] = (),
    out: Path | str | None = None,
    attack: Attack | None = None,
    methods: Sequence[str] = DEFAULT_METHODS,
    skip_bad_images: bool = False,
    masks: Path | str | None = None,
    beside: Sequence[str] = (),
    **settings: Any,
) -> Explanations:
    """Writes a report on the trained models of a run, side by side.

    Args:
        run: a run or its folder.
        images: picture files, or folders of them at any depth, to explain in place of the run's
            test images. They must have the size of the run's images, unless the run resizes its
            images: then they are resized too. All are explained, whatever the limit.
        out: the folder of the report; `report` in the run if None.
        attack: as for `explain`.
        methods: as for `explain`.
        skip_bad_images: leave unreadable files of `images` out (default False).
        masks: a folder of pictures, see `read_masks` (default None).
        beside: `.keras` files or runs, whose last trained model is meant, to show beside the
            models of the run (default ()).
        **settings: of `explain`.

    Raises:
        InputError: there is no run, it holds no trained model, its images have changed, a
            picture cannot be read or has another size, or as `explain`.
    """
    run = Run.open(run)
    run.require_trained()
    data: Any
    splits = None
    if images:
        pictures, names, source = _read(run, images, skip_bad_images)
        data, settings["limit"] = (pictures, None), len(names)
    else:
        splits = load_run_splits(run)
        data, names = splits.test, None
        source = run.config["data"]["source"]
    facts = {
        "Data": {"fingerprint of the training data": run.config["data"]["fingerprint"]},
        "Training": {"run": run.path.name, "seed": str(run.config["seed"]), **_weights(run)},
    }
    if settings.get("show_neighbors"):
        settings["training"] = (load_run_splits(run) if splits is None else splits).train
    if masks is not None:
        height, width, _ = run.config["data"]["image_shape"]
        known = data.ids.tolist() if names is None else names
        settings["masks"] = read_masks(masks, known, (height, width), resized=_is_resized(run))
    models = {name: load_classifier(run.folder(name) / "model.keras") for name in run.trained}
    explanations = explain(
        models | models_beside(beside, run.trained),
        data,
        run.path / "report" if out is None else out,
        attack=attack,
        methods=methods,
        class_names=run.config["data"]["class_names"],
        ids=names,
        source=source,
        accuracies=_measured(run),
        facts=facts,
        **settings,
    )
    if explanations.path.is_file():  # one piece of several writes none
        link_pages(run.path, explanations.path)
    return explanations


def explain_model_file(
    model: Path | str,
    data: str,
    *,
    out: Path | str | None = None,
    attack: Attack | None = None,
    methods: Sequence[str] = DEFAULT_METHODS,
    input_range: InputRange | None = None,
    output: str | None = None,
    skip_bad_images: bool = False,
    masks: Path | str | None = None,
    beside: Sequence[str] = (),
    **settings: Any,
) -> Explanations:
    """Writes a report on a saved model, on the test images of a set.

    Args:
        model: a `.keras` file.
        data: what `robustcls.load` takes; resized to what the model takes.
        out: the folder of the report; NAME-explanation beside the file if None.
        attack: as for `explain`.
        methods: as for `explain`.
        input_range: as for `explain`.
        output: as for `explain`.
        skip_bad_images: leave unreadable images out (default False).
        masks: a folder of pictures, see `read_masks` (default None).
        beside: as for `explain_run`, models of the same images.
        **settings: of `explain`.

    Raises:
        InputError: the model or the images cannot be loaded, or as `explain`.
    """
    path = Path(model)
    if settings.get("show_neighbors"):
        raise InputError(
            f"show_neighbors is for a run, which knows its training images; {path} is none."
        )
    found = models_of_file(
        path,
        data,
        out=out,
        input_range=input_range,
        output=output,
        skip_bad_images=skip_bad_images,
    )
    if masks is not None:
        size = found.test.images.shape[1:3]
        settings["masks"] = read_masks(masks, found.test.ids.tolist(), size, resized=True)
    others = models_beside(beside, [path.stem], input_range=input_range, output=output)
    return explain(
        {path.stem: found.models[0].load()} | others,
        found.test,
        f"{path.with_suffix('')}-explanation" if out is None else out,
        attack=attack,
        methods=methods,
        class_names=found.class_names,
        source=found.source,
        facts={"Data": {"fingerprint of the images": found.fingerprint}},
        **settings,
    )


def _read(run: Run, paths: Sequence[Path | str], skip: bool) -> tuple[np.ndarray, list[str], str]:
    """Returns pictures float32 [N, H, W, C], their names, and where they come from in words."""
    height, width, channels = run.config["data"]["image_shape"]
    resized = _is_resized(run)
    files, given = FileReader(skip=skip), named_files(paths)

    def read(path: Path) -> np.ndarray:
        size = probe(path)[:2]
        if not resized and size != (height, width):
            raise InputError(
                f"images must be {width} x {height} pixels, as the run's are; {path} is "
                f"{size[1]} x {size[0]}."
            )
        return read_image(path, (height, width), channels)

    found = files.each(read, given, "Reading")
    files.require_readable()
    names = [str(path) for path, one in zip(given, found, strict=True) if one is not None]
    if not names:
        raise InputError(f"images must name at least one readable file; received {list(paths)}.")
    pictures = np.stack([one for one in found if one is not None]).astype(np.float32) / 255
    return pictures, names, ". ".join(["files", *files.left_out]).removesuffix(".")


def _is_resized(run: Run) -> bool:
    return run.config["train"]["data"].get("image_size") is not None


def _weights(run: Run) -> dict[str, str]:
    return {f"weights of {name}": words for name, words in run.config.get("weights", {}).items()}


def _measured(run: Run) -> dict[str, dict[str, float]]:
    """What `robustcls evaluate` found, when it has run."""
    if not (run.path / METRICS).is_file():
        return {}
    metrics = read_sealed(run.path / METRICS)
    return {
        name: {part: metrics[name][part] for part in metrics["intervals"][name]}
        for name in metrics["models"]
    }
