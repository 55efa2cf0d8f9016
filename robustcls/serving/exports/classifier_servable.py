"""What is served of a classifier: signatures, test cases, card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robustcls._validation import InputError
from robustcls.models.folding import fold_batch_norm
from robustcls.serving.exports.bfloat16 import with_bfloat16_weights
from robustcls.serving.exports.cases import Case
from robustcls.serving.exports.endpoints import classifier_endpoints
from robustcls.serving.exports.explanations import DEFINITIONS, Explainer
from robustcls.serving.exports.model_card import ModelCard
from robustcls.serving.exports.samples import Samples, embedded_images, make_samples
from robustcls.serving.exports.servable import Servable

CLASS_NAMES = "class_names.txt"

USE = (
    "One image in, one of the classes below out. Every image gets a class, also one of nothing "
    "that the model was trained on; an anomaly detector in front of it can refuse those.",
    "Images are float32 [N, H, W, C] in [0, 1], or JPEG and PNG files of any size.",
)
LIMITS = (
    "Probabilities are the softmax of the logits and not calibrated.",
    "Robustness holds for the changes that were measured, at the sizes that were measured.",
    "Maps say which pixels move a logit, not why the training made it so.",
)


def classifier_servable(
    model: keras.Model,
    folder: Path,
    *,
    class_names: Sequence[str],
    images: np.ndarray | None = None,
    card: Mapping[str, Any],
    bfloat16: bool = False,
) -> Servable:
    """Returns what is served of a classifier, its batch norms folded.

    Args:
        model: functional, images float32 [N, H, W, C] in [0, 1] to logits [N, K].
        folder: must stay until the export is written; the class names are put there.
        class_names: K names.
        images: uint8 [N, H, W, C], whose answers are kept with the export; some that come with
            the package by default.
        card: fields of the model card to replace: summary, data, metrics, config.
        bfloat16: whether weights are rounded to bfloat16 and stored so.

    Raises:
        InputError: not a functional classifier of logits, or not as many names as classes.
    """
    image_shape = check_classifier(model, class_names)
    served = fold_batch_norm(model)
    if bfloat16:
        served, model = with_bfloat16_weights(served)
    samples = make_samples(embedded_images(image_shape) if images is None else images)
    fields = {
        "summary": f"A classifier of images {list(image_shape)} into {len(class_names)} classes.",
        "use": USE,
        "meanings": {**DEFINITIONS, "top_k": "the likeliest classes, the likeliest first"},
        "limits": LIMITS,
        **card,
    }
    data = {**fields.pop("data", {}), "classes": ", ".join(class_names)}
    asset = folder / CLASS_NAMES
    asset.write_text("".join(f"{line}\n" for line in class_names), encoding="utf-8")
    names = _lookup(asset)
    return Servable(
        endpoints=classifier_endpoints(served, names, image_shape),
        tables=(names,),
        cases=_cases(model, served, samples, class_names),
        card=ModelCard(**fields, data=data),
    )


def check_classifier(model: Any, class_names: Sequence[str]) -> tuple[int, int, int]:
    """Returns the shape of a classifier's images, (height, width, channels).

    Raises:
        InputError: as for `classifier_servable`.
    """
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
