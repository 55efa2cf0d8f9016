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

from robustcls._validation import check_choice
from robustcls.data.splits import Split, Splits
from robustcls.evaluation.prediction import subset
from robustcls.evaluation.runs.data import load_run_splits
from robustcls.models.building import load_classifier
from robustcls.models.folding import fold_batch_norm
from robustcls.runs import Run
from robustcls.serving.exports.classifier_servable import classifier_servable
from robustcls.serving.exports.configuration import usable_name
from robustcls.serving.exports.conversion_cost import compare, weights_megabytes
from robustcls.serving.exports.portable import CALIBRATION_IMAGES, export_file
from robustcls.serving.exports.run_card import run_card
from robustcls.serving.exports.samples import COUNT
from robustcls.serving.exports.servable import write_export
from robustcls.training.trainer import base_model_of

FORMATS = ("saved_model", "bfloat16", "int8", "onnx")


def export(
    model: keras.Model,
    out: Path | str,
    *,
    class_names: Sequence[str],
    name: str | None = None,
    version: int | None = None,
    images: np.ndarray | None = None,
    card: Mapping[str, Any] | None = None,
    bfloat16: bool = False,
    test: Split | None = None,
) -> Path:
    """Writes a classifier as the next version in `out`, ready for TensorFlow Serving.

    Batch norms are folded into the layers before them. Of a trainer the base model is taken.

    Args:
        model: functional, images float32 [N, H, W, C] in [0, 1] to logits [N, K].
        out: the model's folder: version folders, configuration files.
        class_names: K names.
        name: the model's name in requests; that of `model` by default (str or None, default None).
        version: its number; None takes the next (int or None, default None).
        images: uint8 [N, H, W, C], real images whose answers are kept with the export for
            `check_export`; some that come with the package by default (default None).
        card: fields of the model card to replace: summary, data, metrics, config (default None).
        bfloat16: store the weights in bfloat16, half the size; they are computed with in float32
            (bool, default False).
        test: images on which bfloat16 is measured beside float32, for the card (default None).

    Returns:
        The folder of the version, `out/<number>`.

    Raises:
        InputError: not a functional classifier of logits, as many names as classes are wanted,
            the version exists, or `out` cannot be written.
    """
    model = base_model_of(model)
    with tempfile.TemporaryDirectory() as folder:
        servable = classifier_servable(
            model,
            Path(folder),
            class_names=class_names,
            images=images,
            card=card or {},
            bfloat16=bfloat16,
        )
        if bfloat16 and test is not None:
            servable = replace(servable, compare=_beside_float32(model, test))
        return write_export(servable, out, name=name or usable_name(model.name), version=version)


def export_run(
    run: Run | Path | str,
    out: Path | str | None = None,
    *,
    model: str | None = None,
    name: str | None = None,
    version: int | None = None,
    format: str = "saved_model",
) -> Path:
    """Exports a model of a run with the run's figures on its card.

    Args:
        run: a run of `robustcls train`, or its folder.
        out: the model's folder; by default `export/` in the run, or `export-FORMAT/` (default
            None).
        model: base or adversarial; by default adversarial where it was trained (str or None,
            default None).
        name: the model's name in requests; the run's by default (str or None, default None).
        version: its number; None takes the next (int or None, default None).
        format: saved_model; bfloat16, a SavedModel with weights in bfloat16; int8, a TFLite file;
            onnx, an ONNX file. All but the first are measured on the test split beside float32
            (str, default "saved_model").

    Returns:
        The folder of the version.

    Raises:
        InputError: there is no run, no trained model in it, its images cannot be had, a package
            that a format needs is not installed, or `out` cannot be written.
    """
    check_choice("format", format, FORMATS)
    run = Run.open(run)
    network, splits, card = open_run(run, model)
    default = "export" if format == "saved_model" else f"export-{format}"
    folder = run.path / default if out is None else Path(out)
    settings: dict[str, Any] = {
        "class_names": splits.class_names,
        "name": name or usable_name(run.path.resolve().name),
        "version": version,
        "card": card,
        "test": splits.test,
    }
    if format in ("int8", "onnx"):
        chosen = subset(len(splits.train), CALIBRATION_IMAGES, seed=0)
        calibration = splits.train.images[chosen]
        return export_file(network, folder, format=format, calibration=calibration, **settings)
    return export(
        network, folder, images=sample(splits.test), bfloat16=format == "bfloat16", **settings
    )


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


def _beside_float32(model: keras.Model, test: Split) -> Callable[[Path], dict[str, Any]]:
    folded = fold_batch_norm(model)
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
        )

    return measure


def _variables_megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in (folder / "variables").iterdir()) / 1e6
