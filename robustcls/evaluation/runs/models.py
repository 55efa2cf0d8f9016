"""The models to evaluate and the images to do it on: those of a run, or a file and a set."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robustcls._validation import InputError
from robustcls.attacks import adapt
from robustcls.classifiers.ranges import InputRange
from robustcls.data.augment import AugmentationPolicy
from robustcls.data.sources import load
from robustcls.data.splits import Split, Splits
from robustcls.evaluation.evaluator import NOISES
from robustcls.evaluation.runs.data import load_run_splits, resizing
from robustcls.models.building import load_classifier
from robustcls.runs import Run
from robustcls.training.checkpoints import read_history
from robustcls.training.findings import rising_loss


@dataclass(frozen=True)
class StoredModel:
    """A model that is loaded when its turn comes.

    Attributes:
        name: what to call it.
        digest: SHA-256 of its file or files.
        load: returns the model: a Keras model, or a classifier of a SavedModel.
    """

    name: str
    digest: str
    load: Callable[[], Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class ModelsAndImages:
    """The models of one evaluation, and the images.

    Attributes:
        title: what is evaluated, in words.
        folder: where metrics.json and the report go.
        models: at least one; of a run, the reference comes first.
        test: the images.
        class_names: one name a class id.
        source: where the images came from, in words.
        fingerprint: of the whole image set.
        trained_on: noises that training used; unknown, so empty, for a model file.
        training_seed: seed of the run; None for a model file.
        notes: what must be known of the images and the training before the figures are read.
        histories: by model, what its training logged after each epoch.
        evaluation: whose results `folder` holds; None when that is not chosen yet.
    """

    title: str
    folder: Path
    models: tuple[StoredModel, ...]
    test: Split
    class_names: tuple[str, ...]
    source: str
    fingerprint: str
    trained_on: tuple[str, ...] = ()
    training_seed: int | None = None
    notes: tuple[str, ...] = ()
    histories: Mapping[str, list[dict[str, float]]] = field(default_factory=dict)
    evaluation: str | None = None


def find_models(
    path: Path | str,
    data: str | None = None,
    *,
    out: Path | str | None = None,
    input_range: InputRange | None = None,
    output: str | None = None,
    skip_bad_images: bool = False,
) -> ModelsAndImages:
    """Returns the models of a run with its images, or a saved model with those of `data`.

    Args:
        path: a run folder, or a `.keras` file or SavedModel folder.
        data: for a model file, what `robustcls.load` takes.
        out: for a model file, where the results go; NAME-evaluation beside it if None.
        input_range: what a model file wants 0 and 1 to be, for example (0, 255) or (-1, 1).
        output: which output of a model file to take, by name or number, where it has several.
        skip_bad_images: for a model file, leave unreadable images out.

    Raises:
        InputError: there is no model at `path`, or the arguments do not fit it.
    """
    path = Path(path)
    is_model = path.is_file() or (path / "saved_model.pb").is_file()
    if is_model and data is None:
        raise InputError(f"data must name the images for the model {path}; received none.")
    if is_model and data is not None:
        return models_of_file(
            path,
            data,
            out=out,
            input_range=input_range,
            output=output,
            skip_bad_images=skip_bad_images,
        )
    if skip_bad_images or any(given is not None for given in (data, out, input_range, output)):
        raise InputError(
            "data, out, input_range, output and skip_bad_images are for a .keras file or a "
            "SavedModel, a run knows its own; "
            f"{path} is {'a folder without one' if path.is_dir() else 'no such thing'}."
        )
    return models_of_run(path)


def models_of_run(run: Run | Path | str) -> ModelsAndImages:
    """Returns the trained models of a run and its test images.

    Raises:
        InputError: there is no run, it holds no trained model, or its images have changed.
    """
    run = Run.open(run)
    run.require_trained()
    splits = load_run_splits(run)
    histories = _histories(run)
    models = []
    for name in run.trained:
        path = run.folder(name) / "model.keras"
        models.append(StoredModel(name, _digest(path), functools.partial(load_classifier, path)))
    return ModelsAndImages(
        title=run.path.resolve().name,
        folder=run.path,
        models=tuple(models),
        test=splits.test,
        class_names=splits.class_names,
        source=splits.source,
        fingerprint=splits.fingerprint,
        trained_on=_noises_in_training(run.config["train"]["augmentation"]),
        training_seed=run.config["train"]["seed"],
        notes=(*splits.left_out, *_of_training(histories)),
        histories=histories,
    )


def models_of_file(
    model: Path | str,
    data: str,
    *,
    out: Path | str | None = None,
    input_range: InputRange | None = None,
    output: str | None = None,
    skip_bad_images: bool = False,
) -> ModelsAndImages:
    """Returns a saved model and the test images of a set, resized to what the model takes.

    Args:
        model: a `.keras` file or a SavedModel folder.
        data: what `robustcls.load` takes.
        out: where metrics.json and the report go; NAME-evaluation beside the model if None.
        input_range: what the model wants 0 and 1 to be, for example (0, 255) or (-1, 1).
        output: which output to take, by name or number, where the model has several.
        skip_bad_images: leave unreadable images out.

    Raises:
        InputError: the model or the images cannot be loaded.
    """
    path = Path(model)
    loaded = adapt(path, input_range=input_range, output=output)
    splits = load(data, skip_bad_images=skip_bad_images, **resizing(loaded))
    asked = "".join(f" {words}" for words in (input_range, output) if words is not None)
    return ModelsAndImages(
        title=path.resolve().name,
        folder=Path(f"{path.with_suffix('')}-evaluation") if out is None else Path(out),
        models=(StoredModel("model", _digest(path) + asked, lambda: loaded),),
        test=splits.test,
        class_names=splits.class_names,
        source=splits.source,
        fingerprint=splits.fingerprint,
        notes=(*splits.left_out, *_of_images(splits)),
    )


def _of_images(splits: Splits) -> tuple[str, ...]:
    if not splits.changes:
        return ()
    return (
        f"The images were {' and '.join(splits.changes)}, as the model takes them. Its accuracy "
        "may be far from that on images like those that it was trained on.",
    )


def _histories(run: Run) -> dict[str, list[dict[str, float]]]:
    files = {name: run.folder(name) / "history.csv" for name in run.trained}
    return {name: read_history(path) for name, path in files.items() if path.is_file()}


def _of_training(histories: Mapping[str, list[dict[str, float]]]) -> tuple[str, ...]:
    """What the training of each model says against it."""
    notes = [rising_loss(name, history) for name, history in histories.items()]
    return tuple(words for words in notes if words)


def _digest(path: Path) -> str:
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    digest = hashlib.sha256()
    for file in files:
        digest.update(str(file.relative_to(path)).encode())
        with open(file, "rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()


def _noises_in_training(augmentation: dict[str, Any] | None) -> tuple[str, ...]:
    if augmentation is None:
        return ()
    policy = AugmentationPolicy.from_config(augmentation)
    return tuple(name for name in NOISES if policy.noise_probability > 0 and name in policy.noises)
