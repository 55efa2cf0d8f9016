"""What is served of a classifier: signatures, test cases, card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robustcls._validation import InputError, check_finite_weights
from robustcls.classifiers.adapters import classifier_of
from robustcls.classifiers.classifier import Classifier
from robustcls.classifiers.flattening import flat_logits
from robustcls.classifiers.outputs import Outputs, ToLogits
from robustcls.familiarity.familiarity import Familiarity
from robustcls.models.folding import fold_batch_norm
from robustcls.models.stock import with_fast_layers
from robustcls.serving.exports.bfloat16 import with_bfloat16_weights
from robustcls.serving.exports.cases import Case
from robustcls.serving.exports.endpoints import classifier_endpoints
from robustcls.serving.exports.explanations import DEFINITIONS, Explainer
from robustcls.serving.exports.familiar import USE as USE_FAMILIAR
from robustcls.serving.exports.familiar import familiar_answers, familiar_meanings
from robustcls.serving.exports.model_card import ModelCard
from robustcls.serving.exports.samples import Samples, bytes_of, embedded_images, make_samples
from robustcls.serving.exports.servable import Servable

CLASS_NAMES = "class_names.txt"

USE = (
    "One image in, one of the classes below out. Every image gets a class, also one of nothing "
    "that the model was trained on; an anomaly detector in front of it can refuse those.",
    "Images are float32 [N, H, W, C] in [0, 1], or JPEG and PNG files of any size.",
)
LIMITS = (
    "Robustness holds for the changes that were measured, at the sizes that were measured.",
    "Maps say which pixels move a logit, not why the training made it so.",
)


@dataclass(frozen=True, eq=False)
class ServedClassifier:
    """A classifier in the form that is served.

    Attributes:
        network: functional, float32 images [N, H, W, C] in [0, 1] to logits [N, K], batch norms
            folded.
        classifier: the model as it was trained; `prepare` has seen the images.
        graph: images in [0, 1] to what the model itself returns.
        images: uint8 [N, H, W, C], some that it is tried with.
    """

    network: keras.Model
    classifier: Classifier
    graph: keras.Model
    images: np.ndarray

    @property
    def read(self) -> Outputs:
        """How probabilities are made of the logits."""
        return self.classifier.outputs

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    def answers(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the model's logits and its own probabilities, float32 [N, K] each.

        Args:
            images: float32 [N, H, W, C] in [0, 1].
        """
        logits = self.classifier.predict(images)
        returned = self.classifier.ending in ("softmax", "sigmoid") or self.read.are_probabilities
        if not returned or self.graph.outputs[0].dtype != "float32":
            return logits, self.read.probabilities(logits).numpy()
        scores = np.asarray(self.graph(images, training=False)).reshape(len(images), -1)
        return logits, replace(self.read, are_probabilities=True).columns(scores).numpy()


def served_classifier(
    model: Any, class_names: Sequence[str], images: np.ndarray | None = None
) -> ServedClassifier:
    """Returns a classifier in the form that is served.

    Args:
        model: a Keras classifier of any form that `attacks.adapt` takes, or what it returned.
        class_names: K names.
        images: uint8 [N, H, W, C], or float in [0, 1], to try it with; some that come with the
            package by default.

    Raises:
        InputError: not a Keras classifier of images of one size, unusable images, weights that are
            not finite, or not as many names as classes.
    """
    classifier = classifier_of(model)
    if classifier.graph is None:
        raise InputError(
            f"model must be a Keras model to be exported; received {classifier.name}, of which "
            "only outputs can be had. A SavedModel can be served as it is."
        )
    images = None if images is None else bytes_of(images)
    shape = classifier.fixed_shape or (None if images is None else images.shape[1:])
    if shape is None:
        raise InputError(
            "images must be given for a model that does not say the size of its images, since an "
            "export takes one size; received none."
        )
    height, width, channels = shape
    if channels not in (1, 3):
        raise InputError(f"model must take images of 1 or 3 channels; received {channels}.")
    images = embedded_images((height, width, channels)) if images is None else images
    floats = images.astype(np.float32) / np.float32(255)
    graph = classifier.graph((height, width, channels))
    check_finite_weights("model", graph)
    _check_names(class_names, classifier.prepare(floats))
    network = flat_logits(classifier, floats)
    if network is None:
        logits = ToLogits(classifier.outputs, dtype="float32")(graph.outputs[0])
        network = keras.Model(graph.inputs[0], logits, name=graph.name)
    # Keras compiles grouped convolutions with XLA, which TensorFlow Serving has off.
    network = fold_batch_norm(with_fast_layers(network))
    return ServedClassifier(network, classifier, graph, images)


def classifier_servable(
    model: Any,
    folder: Path,
    *,
    class_names: Sequence[str],
    images: np.ndarray | None = None,
    card: Mapping[str, Any],
    familiarity: Familiarity | None = None,
    bfloat16: bool = False,
) -> Servable:
    """Returns what is served of a classifier, its batch norms folded.

    Args:
        model: as for `served_classifier`, or what that returned.
        folder: must stay until the export is written; the class names are put there.
        class_names: K names.
        images: uint8 [N, H, W, C], whose answers are kept with the export; some that come with
            the package by default.
        card: fields of the model card to replace: summary, data, metrics, config.
        familiarity: what every answer says beside the classes, fitted to the same model.
        bfloat16: whether weights are rounded to bfloat16 and stored so.

    Raises:
        InputError: as for `served_classifier`, or `familiarity` is of another model.
    """
    is_made = isinstance(model, ServedClassifier)
    served = model if is_made else served_classifier(model, class_names, images)
    network, read, samples = served.network, served.read, make_samples(served.images)
    if bfloat16:
        network, rounded = with_bfloat16_weights(network)
        logits = np.asarray(rounded(samples.images, training=False))
        answers = logits, read.probabilities(logits).numpy()
    else:
        rounded, answers = None, served.answers(samples.images)
    more, meanings, use = {}, {}, USE
    if familiarity is not None:
        more = familiar_answers(familiarity, samples.images, answers[0], rounded)
        meanings, use = familiar_meanings(familiarity), (USE_FAMILIAR, *USE[1:])
    cases = _cases(network, samples, class_names, *answers, more)
    asset = folder / CLASS_NAMES
    asset.write_text("".join(f"{line}\n" for line in class_names), encoding="utf-8")
    names = _lookup(asset)
    shape = served.image_shape
    explains = "explain" in cases
    fields = {
        "summary": f"A classifier of images {list(shape)} into {len(class_names)} classes.",
        "use": use,
        "meanings": {
            **meanings,
            **(DEFINITIONS if explains else {}),
            "top_k": "the likeliest classes, the likeliest first",
        },
        "limits": limits(read),
        **card,
    }
    data = {**fields.pop("data", {}), "classes": ", ".join(class_names)}
    endpoints = classifier_endpoints(
        network,
        names,
        shape,
        read,
        explains=explains,
        familiarity=None if familiarity is None else familiarity.served(network),
    )
    return Servable(
        endpoints=endpoints,
        tables=(names,),
        cases=cases,
        card=ModelCard(**fields, data=data),
    )


def limits(read: Outputs) -> tuple[str, ...]:
    """Returns what a card says a classifier is not for.

    Args:
        read: how probabilities are made of its logits.
    """
    made = "sigmoids, one of each logit" if read.independent else "the softmax of the logits"
    return (f"Probabilities are {made}, and not calibrated.", *LIMITS)


def _check_names(class_names: Sequence[str], classes: int) -> None:
    if len(class_names) != classes or len(set(class_names)) != classes:
        raise InputError(
            f"class_names must be {classes} different names; received {len(class_names)}, "
            f"{len(set(class_names))} of them different."
        )
    for name in class_names:
        if len(name.splitlines()) != 1:
            raise InputError(f"class_names must be lines of text; received {name!r}.")


def _lookup(asset: Path) -> tf.lookup.StaticHashTable:
    """Returns class ids to names; the file becomes an asset of the SavedModel."""
    lines, whole = tf.lookup.TextFileIndex.LINE_NUMBER, tf.lookup.TextFileIndex.WHOLE_LINE
    initializer = tf.lookup.TextFileInitializer(str(asset), tf.int64, lines, tf.string, whole)
    return tf.lookup.StaticHashTable(initializer, default_value="")


def _cases(
    network: keras.Model,
    samples: Samples,
    class_names: Sequence[str],
    logits: np.ndarray,
    probabilities: np.ndarray,
    more: Mapping[str, np.ndarray],
) -> dict[str, Case]:
    """What the model, as trained, answers to the samples; `more` beside the classes.

    The maps are those of the served network: where an activation lies at the kink of its function,
    rounding decides about the gradient. A network without a gradient has none.
    """
    top_k = np.argsort(-probabilities, 1, "stable")[:, : min(5, logits.shape[1])]
    names = np.array([name.encode() for name in class_names])[top_k]
    outputs = {
        "logits": logits,
        "probabilities": probabilities,
        "classes": top_k[:, 0],
        "top_k": top_k,
        "top_k_names": names,
        **more,
    }
    scores = np.take_along_axis(probabilities, top_k, 1)
    cases = {
        "serving_default": Case({"images": samples.images}, outputs),
        "serving_bytes": Case({"image_bytes": samples.files}, outputs),
        "decode": Case({"image_bytes": samples.photos}, {"images": samples.read_photos}),
        "classify": Case({"inputs": samples.examples}, {"classes": names, "scores": scores}),
    }
    # Every third for the predicted class, the others for some class.
    class_id = np.arange(len(logits), dtype=np.int64) % logits.shape[1]
    class_id[::3] = -1
    try:
        maps = Explainer(network)(tf.constant(samples.images), tf.constant(class_id))
    except InputError:
        return cases
    inputs = {"images": samples.images, "class_id": class_id}
    return cases | {"explain": Case(inputs, {key: np.asarray(maps[key]) for key in maps})}
