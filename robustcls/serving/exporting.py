"""`export`: a classifier, or the model of a run, as a SavedModel for TensorFlow Serving."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robustcls._validation import InputError, check_choice
from robustcls.data.splits import Splits
from robustcls.evaluation.run_data import load_run_splits
from robustcls.models.classifier import load_classifier
from robustcls.models.folding import fold_batch_norm
from robustcls.runs import METRICS, Run, read_json
from robustcls.serving.card import Card, metric_row
from robustcls.serving.configuration import usable_name
from robustcls.serving.endpoints import classifier_endpoints
from robustcls.serving.explanations import DEFINITIONS, Explainer
from robustcls.serving.parity import Case
from robustcls.serving.samples import COUNT, Samples, embedded_images, make_samples
from robustcls.serving.servable import Servable, write_export

CLASS_NAMES = "class_names.txt"

_USE = (
    "One image in, one of the classes below out. Every image gets a class, also one of nothing "
    "that the model was trained on; an anomaly detector in front of it can refuse those.",
    "Images are float32 [N, H, W, C] in [0, 1], or JPEG and PNG files of any size.",
)
_LIMITS = (
    "Probabilities are the softmax of the logits and not calibrated.",
    "Robustness holds for the changes that were measured, at the sizes that were measured.",
    "Maps say which pixels move a logit, not why the training made it so.",
)


def export(
    model: keras.Model,
    out: Path | str,
    *,
    class_names: Sequence[str],
    name: str | None = None,
    version: int | None = None,
    images: np.ndarray | None = None,
    card: Mapping[str, Any] | None = None,
) -> Path:
    """Writes a classifier as the next version in `out`, ready for TensorFlow Serving.

    Batch norms are folded into the layers before them. Of a trainer the base model is taken.

    Args:
        model: functional, images float32 [N, H, W, C] in [0, 1] to logits [N, K].
        out: the model's folder: version folders, configuration files.
        class_names: K names.
        name: the model's name in requests; that of `model` by default.
        version: its number; None takes the next.
        images: uint8 [N, H, W, C], real images whose answers are kept with the export for
            `check_export`; some that come with the package by default.
        card: fields of the model card to replace: summary, data, metrics, config.

    Returns:
        The folder of the version, `out/<number>`.

    Raises:
        InputError: not a functional classifier of logits, as many names as classes are wanted,
            the version exists, or `out` cannot be written.
    """
    model = getattr(model, "base_model", model)
    image_shape = _check_model(model, class_names)
    samples = make_samples(embedded_images(image_shape) if images is None else images)
    folded = fold_batch_norm(model)
    cases = _cases(model, folded, samples, class_names)
    fields = {
        "summary": f"A classifier of images {list(image_shape)} into {len(class_names)} classes.",
        "use": _USE,
        "meanings": {**DEFINITIONS, "top_k": "the likeliest classes, the likeliest first"},
        "limits": _LIMITS,
        **(card or {}),
    }
    data = {**fields.pop("data", {}), "classes": ", ".join(class_names)}
    with tempfile.TemporaryDirectory() as folder:
        asset = Path(folder) / CLASS_NAMES
        asset.write_text("".join(f"{line}\n" for line in class_names), encoding="utf-8")
        names = _lookup(asset)
        servable = Servable(
            endpoints=classifier_endpoints(folded, names, image_shape),
            tables=(names,),
            cases=cases,
            card=Card(**fields, data=data),
        )
        name = name or usable_name(model.name)
        return write_export(servable, out, name=name, version=version)


def export_run(
    run: Run | Path | str,
    out: Path | str | None = None,
    *,
    model: str | None = None,
    name: str | None = None,
    version: int | None = None,
) -> Path:
    """Exports a model of a run with the run's figures on its card.

    Args:
        run: a run of `robustcls train`, or its folder.
        out: the model's folder; `export/` in the run by default.
        model: base or adversarial; by default adversarial where it was trained.
        name: the model's name in requests; the run's by default.
        version: its number; None takes the next.

    Returns:
        The folder of the version.

    Raises:
        InputError: there is no run, no trained model in it, its images cannot be had, or `out`
            cannot be written.
    """
    run = run if isinstance(run, Run) else Run(run)
    if not run.trained:
        raise InputError(
            f"run must hold a trained classifier; {run.path} holds none. Was its training "
            "interrupted? Go on with --resume."
        )
    model = run.trained[-1] if model is None else check_choice("model", model, run.trained)
    splits = load_run_splits(run)
    return export(
        load_classifier(run.folder(model) / "model.keras"),
        run.path / "export" if out is None else out,
        class_names=splits.class_names,
        name=name or usable_name(run.path.resolve().name),
        version=version,
        images=splits.test.images[np.linspace(0, len(splits.test) - 1, COUNT).astype(int)],
        card=_run_card(run, model, splits),
    )


def _check_model(model: Any, class_names: Sequence[str]) -> tuple[int, int, int]:
    inputs: Any = getattr(model, "inputs", None)
    outputs: Any = getattr(model, "outputs", None)
    functional = isinstance(model, keras.Model) and inputs and outputs
    if (
        not functional
        or (len(inputs), len(outputs)) != (1, 1)
        or (len(inputs[0].shape), len(outputs[0].shape)) != (4, 2)
        or None in inputs[0].shape[1:]
    ):
        raise InputError(
            "model must be a functional Keras model from images [N, H, W, C] to logits [N, K]; "
            f"received {type(model).__name__}."
        )
    for tensor in (inputs[0], outputs[0]):
        if tensor.dtype != "float32":
            raise InputError(f"model must take and return float32; received {tensor.dtype}.")
    classes = outputs[0].shape[1]
    if len(class_names) != classes or len(set(class_names)) != classes:
        raise InputError(
            f"class_names must be {classes} different names; received {len(class_names)}, "
            f"{len(set(class_names))} of them different."
        )
    for name in class_names:
        if len(name.splitlines()) != 1:
            raise InputError(f"class_names must be lines of text; received {name!r}.")
    height, width, channels = inputs[0].shape[1:]
    return height, width, channels


def _lookup(asset: Path) -> tf.lookup.StaticHashTable:
    """Returns class ids to names; the file becomes an asset of the SavedModel."""
    lines, whole = tf.lookup.TextFileIndex.LINE_NUMBER, tf.lookup.TextFileIndex.WHOLE_LINE
    initializer = tf.lookup.TextFileInitializer(str(asset), tf.int64, lines, tf.string, whole)
    return tf.lookup.StaticHashTable(initializer, default_value="")


def _cases(
    model: keras.Model, folded: keras.Model, samples: Samples, class_names: Sequence[str]
) -> dict[str, Case]:
    """What the model, as trained, answers to the samples.

    The maps are those of the folded model: where an activation lies at the kink of its function,
    rounding decides about the gradient.
    """
    logits = np.asarray(model(samples.images, training=False))
    if (logits >= 0).all() and np.allclose(logits.sum(1), 1, atol=1e-4):
        raise InputError("model must return logits; its outputs are probabilities already.")
    probabilities = np.asarray(tf.nn.softmax(logits))
    top_k = np.argsort(-probabilities, 1, "stable")[:, : min(5, logits.shape[1])]
    names = np.array([name.encode() for name in class_names])[top_k]
    outputs = {
        "logits": logits,
        "probabilities": probabilities,
        "classes": top_k[:, 0],
        "top_k": top_k,
        "top_k_names": names,
    }
    # Every third for the predicted class, the others for some class.
    class_id = np.arange(len(logits), dtype=np.int64) % logits.shape[1]
    class_id[::3] = -1
    maps = Explainer(folded)(tf.constant(samples.images), tf.constant(class_id))
    scores = np.take_along_axis(probabilities, top_k, 1)
    return {
        "serving_default": Case({"images": samples.images}, outputs),
        "serving_bytes": Case({"image_bytes": samples.files}, outputs),
        "decode": Case({"image_bytes": samples.photos}, {"images": samples.read_photos}),
        "explain": Case(
            {"images": samples.images, "class_id": class_id},
            {key: np.asarray(value) for key, value in maps.items()},
        ),
        "classify": Case({"inputs": samples.examples}, {"classes": names, "scores": scores}),
    }


def _run_card(run: Run, model: str, splits: Splits) -> dict[str, Any]:
    metrics: dict[str, Any] = {}
    if (run.path / METRICS).is_file():
        metrics = read_json(run.path / METRICS)
    backbone = run.config["train"]["model"]["backbone"]
    training = (
        "with adversarial regularization"
        if model == "adversarial"
        else "without adversarial images"
    )
    rows = [
        metric_row(key, value, metrics["intervals"].get(model, {}).get(key))
        for key, value in metrics.get(model, {}).items()
        if key != "epsilon"
    ]
    data = {
        "source": splits.source,
        "fingerprint": splits.fingerprint,
        "test images": len(splits.test),
    }
    if rows:
        data["attacks"] = f"L-infinity, epsilon {metrics['epsilon']:.4g} for images in [0, 1]"
    return {
        "summary": f"`{backbone}`, trained {training}; the run's `{model}`.",
        "data": data,
        "metrics": tuple(rows),
        "config": run.config["train"],
    }
