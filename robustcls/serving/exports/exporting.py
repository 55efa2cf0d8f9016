"""`export`: a classifier, or the model of a run, as a SavedModel for TensorFlow Serving."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robustcls._validation import InputError, check_choice
from robustcls.classifiers.adapters import adapt, classifier_of
from robustcls.classifiers.ranges import InputRange, Preprocess
from robustcls.data.sources import load
from robustcls.data.splits import Split, Splits
from robustcls.evaluation.prediction import subset
from robustcls.evaluation.runs.data import load_run_splits, resizing
from robustcls.familiarity.familiarity import FILE as FAMILIARITY
from robustcls.familiarity.familiarity import Familiarity
from robustcls.familiarity.loading import load as load_familiarity
from robustcls.models.building import load_classifier
from robustcls.runs import Run
from robustcls.serving.exports.classifier_servable import classifier_servable, served_classifier
from robustcls.serving.exports.configuration import usable_name
from robustcls.serving.exports.conversion_cost import compare, weights_megabytes
from robustcls.serving.exports.portable import CALIBRATION_IMAGES, export_file
from robustcls.serving.exports.run_card import run_card
from robustcls.serving.exports.samples import COUNT
from robustcls.serving.exports.servable import write_export

FORMATS = ("saved_model", "bfloat16", "int8", "onnx", "openvino")


def export(
    model: Any,
    out: Path | str,
    *,
    class_names: Sequence[str],
    name: str | None = None,
    version: int | None = None,
    images: np.ndarray | None = None,
    card: Mapping[str, Any] | None = None,
    bfloat16: bool = False,
    test: Split | None = None,
    preprocess: Preprocess | None = None,
    input_range: InputRange | None = None,
    output: str | int | None = None,
    familiarity: Familiarity | None = None,
) -> Path:
    """Writes a classifier as the next version in `out`, ready for TensorFlow Serving.

    What is served takes images in [0, 1] and returns logits and the model's own probabilities: a
    softmax, or a sigmoid for each class. Batch norms are folded into the layers before them.

    Args:
        model: a Keras classifier of any form that `attacks.adapt` takes (a trainer, a file, a run,
            ...), or what it returned of one.
        out: the model's folder: version folders, configuration files.
        class_names: K names.
        name: the model's name in requests; that of `model` by default (str or None, default None).
        version: its number; None takes the next (int or None, default None).
        images: uint8 [N, H, W, C], or float in [0, 1], a few real images whose answers are kept
            with the export for `check_export`; some that come with the package by default (default
            None).
        card: fields of the model card to replace: summary, data, metrics, config (default None).
        bfloat16: store the weights in bfloat16, half the size; they are computed with in float32
            (bool, default False).
        test: images on which bfloat16 is measured beside float32, for the card (default None).
        preprocess: what the model wants done to images in [0, 1] first; it becomes part of what is
            served (default None).
        input_range: what the model wants 0 and 1 to be, for example (0, 255) or (-1, 1), instead of
            `preprocess` (default None).
        output: name or number of the output to serve, of a model with several (str, int or None,
            default None).
        familiarity: what `familiarity.fit` returned for this model: every answer then says whether
            its image is like the training images, as `familiarity` and `familiar` (default None).

    Returns:
        The folder of the version, `out/<number>`.

    Raises:
        InputError: not a Keras classifier, as many names as classes are wanted, `familiarity` is
            of another model, the version exists, or `out` cannot be written.
    """
    classifier = classifier_of(model, preprocess=preprocess, input_range=input_range, output=output)
    served = served_classifier(classifier, class_names, images)
    with tempfile.TemporaryDirectory() as folder:
        servable = classifier_servable(
            served,
            Path(folder),
            class_names=class_names,
            card=card or {},
            familiarity=familiarity,
            bfloat16=bfloat16,
        )
        if bfloat16 and test is not None:
            servable = replace(servable, compare=_beside_float32(served.network, test))
        name = name or usable_name(classifier.name)
        return write_export(servable, out, name=name, version=version)


def export_run(
    run: Run | Path | str,
    out: Path | str | None = None,
    *,
    model: str | None = None,
    name: str | None = None,
    version: int | None = None,
    format: str = "saved_model",
) -> Path:
    """Exports a model of a run, with the run's figures on its card.

    Where `robustcls familiarity` has fitted one to the model, it is part of the export in all
    formats but int8.

    Args:
        run: a run of `robustcls train`, or its folder.
        out: the model's folder; by default `export/` in the run, or `export-FORMAT/` (default
            None).
        model: base or adversarial; by default adversarial where it was trained (str or None,
            default None).
        name: the model's name in requests; the run's by default (str or None, default None).
        version: its number; None takes the next (int or None, default None).
        format: saved_model; bfloat16, a SavedModel with weights in bfloat16; int8, a TFLite file;
            onnx, an ONNX file; openvino, OpenVINO's two files. All but the first are measured on
            the test split beside float32 (str, default "saved_model").

    Returns:
        The folder of the version.

    Raises:
        InputError: there is no run, no trained model in it, its images cannot be had, a package
            that a format needs is not installed, or `out` cannot be written.
    """
    check_choice("format", format, FORMATS)
    run = Run.open(run)
    model = run.require_trained(model, kind="classifier")
    network, splits, card = open_run(run, model)
    file = run.folder(model) / FAMILIARITY
    fitted = load_familiarity(file, network) if file.is_file() and format != "int8" else None
    name = name or usable_name(run.path.resolve().name)
    folder = run.path / _default_folder(format) if out is None else Path(out)
    return _export_as(
        format,
        network,
        splits,
        folder,
        name=name,
        version=version,
        card=card,
        familiarity=fitted,
    )


def export_model_file(
    model: Path | str,
    out: Path | str | None = None,
    *,
    data: str | None = None,
    class_names: Sequence[str] = (),
    name: str | None = None,
    version: int | None = None,
    format: str = "saved_model",
    input_range: InputRange | None = None,
    output: str | None = None,
    skip_bad_images: bool = False,
) -> Path:
    """Exports a model of a `.keras` file.

    Args:
        model: the file.
        out: the model's folder; NAME-export beside the file by default (default None).
        data: what `robustcls.load` takes: names of the classes, and images whose answers are kept
            with the export; formats other than saved_model are measured on them (str or None,
            default None).
        class_names: names of the classes where there are no `data`; "class 0" and so on when
            neither is given (default ()).
        name: the model's name in requests; the file's by default (str or None, default None).
        version: its number; None takes the next (int or None, default None).
        format: as for `export_run` (str, default "saved_model").
        input_range: as for `export` (default None).
        output: as for `export` (str or None, default None).
        skip_bad_images: leave unreadable images of `data` out (bool, default False).

    Returns:
        The folder of the version.

    Raises:
        InputError: no such model, as for `export`, or a format that needs `data` without.
    """
    check_choice("format", format, FORMATS)
    path = Path(model)
    classifier = adapt(path, input_range=input_range, output=output)
    settings: dict[str, Any] = {"name": name or usable_name(path.stem), "version": version}
    folder = path.parent / f"{path.stem}-{_default_folder(format)}" if out is None else Path(out)
    if data is not None:
        splits = load(data, skip_bad_images=skip_bad_images, **resizing(classifier))
        return _export_as(format, classifier, splits, folder, card={}, **settings)
    if format != "saved_model":
        raise InputError(f"data must name the images to measure format {format} on; received none.")
    if not class_names:
        side = classifier.fixed_shape
        count = classifier.prepare(np.full((2, *side), 0.5, np.float32)) if side else 0
        class_names = [f"class {label}" for label in range(count)]
    return export(classifier, folder, class_names=class_names, **settings)


def _export_as(format: str, model: Any, splits: Splits, folder: Path, **settings: Any) -> Path:
    settings |= {"class_names": splits.class_names, "test": splits.test}
    if format in ("int8", "onnx", "openvino"):
        chosen = subset(len(splits.train), CALIBRATION_IMAGES, seed=0)
        calibration = splits.train.images[chosen]
        return export_file(model, folder, format=format, calibration=calibration, **settings)
    few = sample(splits.test)
    return export(model, folder, images=few, bfloat16=format == "bfloat16", **settings)


def _default_folder(format: str) -> str:
    return "export" if format == "saved_model" else f"export-{format}"


def open_run(run: Run, model: str | None) -> tuple[keras.Model, Splits, dict[str, Any]]:
    """Returns a trained model of a run, the run's images, and what the card says of it.

    Args:
        run: a training run.
        model: one of its trained models; None is the last.

    Raises:
        InputError: there is no trained model, or none of that name.
    """
    model = run.require_trained(model, kind="classifier")
    splits = load_run_splits(run)
    network = load_classifier(run.folder(model) / "model.keras")
    return network, splits, run_card(run, model, splits)


def sample(split: Split, count: int = COUNT) -> np.ndarray:
    """Returns uint8 images [count, H, W, C] from all over a split."""
    return split.images[np.linspace(0, len(split) - 1, count).astype(int)]


def _beside_float32(folded: keras.Model, test: Split) -> Callable[[Path], dict[str, Any]]:
    reference = tf.function(lambda images: folded(images, training=False), autograph=False)

    def measure(folder: Path) -> dict[str, Any]:
        loaded = tf.saved_model.load(str(folder))
        serve = loaded.signatures["serving_default"]
        megabytes = weights_megabytes(folded)
        return compare(
            "bfloat16",
            lambda images: serve(images=tf.constant(images))["logits"].numpy(),
            lambda images: reference(tf.constant(images)).numpy(),
            test,
            {"float32": megabytes, "bfloat16": _variables_megabytes(folder)},
            folded,
        )

    return measure


def _variables_megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in (folder / "variables").iterdir()) / 1e6
