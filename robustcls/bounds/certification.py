"""Images that no point of the L-infinity ball around them can turn, by bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robustcls._notebook import Brief, Briefly
from robustcls._validation import (
    InputError,
    check_choice,
    check_epsilon,
    check_images,
    check_labels,
    check_number,
)
from robustcls.bounds.margins import backward_margins, interval_margins
from robustcls.bounds.network import Network
from robustcls.classifiers.adapters import classifier_of
from robustcls.classifiers.classifier import Classifier
from robustcls.classifiers.flattening import flatten
from robustcls.classifiers.ranges import InputRange, Preprocess, require_fitting_range

BOUNDS = ("ibp", "crown")
# Float32 rounds each operation; margins closer to 0 than this share of the logits prove nothing.
SLACK = 1e-4


@dataclass(frozen=True, eq=False, repr=False)
class BoundedMargins(Briefly):
    """What bounds say of each image.

    Attributes:
        labels: int64 [N].
        predicted: int64 [N], the model's class of the image itself.
        margin: float32 [N], lower bound over the ball of the least z_y - z_k, k other than the
            label y.
        certified: bool [N], no point of the ball is classified as anything but the label.
    """

    labels: np.ndarray
    predicted: np.ndarray
    margin: np.ndarray
    certified: np.ndarray

    def brief(self) -> Brief:
        clean, certified = 100 * self.clean_accuracy, 100 * self.certified_accuracy
        return Brief(
            f"{len(self.labels):,} images, {clean:.1f} % right, {certified:.1f} % certified"
        )

    @property
    def clean_accuracy(self) -> float:
        """The share of images classified right, in [0, 1]."""
        return float((self.predicted == self.labels).mean())

    @property
    def certified_accuracy(self) -> float:
        """The share of images right at every point of their ball, in [0, 1]."""
        return float(self.certified.mean())


def certify_by_bounds(
    model: Any,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epsilon: float,
    bound: str = "ibp",
    batch_size: int = 128,
    preprocess: Preprocess | None = None,
    input_range: InputRange | None = None,
    output: str | int | None = None,
) -> BoundedMargins:
    """Certifies images against every change of their pixels by up to epsilon.

    Bounds are computed in float32; a margin that is within 1e-4 of 0, relative to the largest
    bound of a logit, certifies nothing.

    Args:
        model: a Keras classifier of any form that `attacks.adapt` takes, or what it returned of
            one; nested models, and a softmax or sigmoids at the end, are taken apart in a copy. For
            its layers see `Network`.
        images: float32 [N, H, W, C] in [0, 1].
        labels: int [N].
        epsilon: radius of the L-infinity ball, intersected with [0, 1]; in (0, 1].
        bound: "ibp", intervals, or "crown", the better of intervals and of one backward pass of
            lines over the intervals (str, default "ibp").
        batch_size: images at a time, >= 1 (int, default 128).
        preprocess: what the model wants done to images in [0, 1] first, which bounds do not know;
            a range they do (default None).
        input_range: what the model wants 0 and 1 to be, for example (0, 255) or (-1, 1); epsilon
            stays in units of [0, 1] (default None).
        output: name or number of the output to certify, of a model with several (str, int or None,
            default None).

    Raises:
        InputError: an argument is out of its range, or the model has a layer that bounds do not
            know.
    """
    check_epsilon("epsilon", epsilon)
    check_choice("bound", bound, BOUNDS)
    check_number("batch_size", batch_size, minimum=1, integer=True)
    images = check_images(images)
    classifier = classifier_of(model, preprocess=preprocess, input_range=input_range, output=output)
    count = classifier.prepare(images)
    labels = check_labels(labels, len(images), count)
    network = Network(_flat(classifier, images))
    require_fitting_range(classifier, images, labels)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, *images.shape[1:]], tf.float32),
            tf.TensorSpec([None], tf.int64),
        ],
        autograph=False,
    )
    def measure(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        lower = tf.maximum(images - epsilon, 0.0)
        upper = tf.minimum(images + epsilon, 1.0)
        boxes, maps = network.boxes(lower, upper, clean=images)
        margins = interval_margins(network, boxes, labels)
        if bound == "crown":
            margins = tf.maximum(margins, backward_margins(network, boxes, maps, labels))
        is_own = tf.one_hot(labels, margins.shape[1], True, False, dtype=tf.bool)
        least = tf.reduce_min(tf.where(is_own, np.inf, margins), 1)
        ends = boxes[network.output]
        size = tf.reduce_max(tf.maximum(tf.abs(ends.lower), tf.abs(ends.upper)), 1)
        return least, tf.argmax(ends.clean, -1), least > SLACK * tf.maximum(size, 1.0)

    pieces = [
        [value.numpy() for value in measure(images[start:stop], labels[start:stop])]
        for start in range(0, len(images), batch_size)
        for stop in (start + batch_size,)
    ]
    margin, predicted, certified = (np.concatenate(part) for part in zip(*pieces, strict=True))
    return BoundedMargins(labels, predicted, margin, certified)


def _flat(classifier: Classifier, images: np.ndarray) -> keras.Model:
    """A model as a flat graph from images to a logit for each class."""
    flat = None
    if classifier.graph is not None:
        flat = flatten(classifier.graph(images.shape[1:]))
    if flat is None:
        raise InputError(
            "model must be a functional or sequential Keras model for bounds; the layers of "
            f"{classifier.name} cannot be told apart."
        )
    if not classifier.outputs.single:
        return flat
    # The only logit is that of class 1.
    pair = keras.layers.Dense(2, use_bias=False, name="classes")
    flat = keras.Model(flat.inputs[0], pair(flat.outputs[0]))
    pair.set_weights([np.array([[0.0, 1.0]], np.float32)])
    return flat
