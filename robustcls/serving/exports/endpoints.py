"""The signatures that an export offers, as functions with named inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from robustcls.classifiers.outputs import Outputs as ReadAs
from robustcls.serving.decoding import decode_batch
from robustcls.serving.exports.explanations import Explainer

Outputs = dict[str, tf.Tensor]

#: The feature of a `tf.train.Example` that TensorFlow Serving's Classify call carries.
EXAMPLE_FEATURE = "image/encoded"


@dataclass(frozen=True)
class Endpoint:
    """One signature.

    Attributes:
        name: its name in the SavedModel.
        function: tensors by position to a dictionary of float32, int64, bool or string tensors;
            an argument with a default is an optional input.
        inputs: name, shape and type of each argument.
        is_classify: for the Classify call instead of Predict.
    """

    name: str
    function: Callable[..., Outputs]
    inputs: tuple[tf.TensorSpec, ...]
    is_classify: bool = False


def images_spec(image_shape: Sequence[int]) -> tf.TensorSpec:
    """Returns the spec of `images`, float32 [N, H, W, C] in [0, 1]."""
    return tf.TensorSpec([None, *image_shape], tf.float32, "images")


def image_endpoints(
    serve: Callable[[tf.Tensor], Outputs], image_shape: tuple[int, int, int]
) -> tuple[Endpoint, ...]:
    """Returns what every export offers: images or encoded files in, and decoding alone.

    Args:
        serve: images float32 [N, H, W, C] in [0, 1] to named outputs.
        image_shape: (height, width, channels).

    Returns:
        `serving_default` (`images`), `serving_bytes` (`image_bytes`: JPEG or PNG files, string
        [N]) and `decode` (`image_bytes` to `images`).
    """
    encoded = tf.TensorSpec([None], tf.string, "image_bytes")

    def serve_bytes(image_bytes: tf.Tensor) -> Outputs:
        return serve(decode_batch(image_bytes, image_shape))

    def decode_bytes(image_bytes: tf.Tensor) -> Outputs:
        return {"images": decode_batch(image_bytes, image_shape)}

    return (
        Endpoint("serving_default", serve, (images_spec(image_shape),)),
        Endpoint("serving_bytes", serve_bytes, (encoded,)),
        Endpoint("decode", decode_bytes, (encoded,)),
    )


def classifier_endpoints(
    model: keras.Model,
    names: tf.lookup.StaticHashTable,
    image_shape: tuple[int, int, int],
    read: ReadAs,
    *,
    explains: bool = True,
    familiarity: Callable[[tf.Tensor], Outputs] | None = None,
) -> tuple[Endpoint, ...]:
    """Returns the signatures of a classifier.

    Args:
        model: functional, images [N, H, W, C] to logits [N, K].
        names: class ids, int64, to class names.
        image_shape: (height, width, channels).
        read: how probabilities are made of logits.
        explains: offer maps; a model without gradients has none (bool, default True).
        familiarity: images to the model's `logits` and what else every answer has beside them
            (default None).

    Returns:
        Those of `image_endpoints`, `explain` (`images`, `class_id`) and `classify`.
    """
    explainer = Explainer(model)

    @tf.function(autograph=False)  # traced once for all signatures
    def serve(images: tf.Tensor) -> Outputs:
        found = familiarity(images) if familiarity else {"logits": model(images, training=False)}
        logits = found["logits"]
        probabilities = read.probabilities(logits)
        best = tf.math.top_k(probabilities, min(5, logits.shape[-1])).indices
        best = tf.cast(best, tf.int64)
        return {
            **found,
            "probabilities": probabilities,
            "classes": best[:, 0],
            "top_k": best,
            "top_k_names": names.lookup(best),
        }

    predicted = tf.constant([-1], tf.int64)

    def explain(images: tf.Tensor, class_id: Any = predicted) -> Outputs:
        return explainer(images, tf.convert_to_tensor(class_id))

    def classify(inputs: tf.Tensor) -> Outputs:
        feature = {EXAMPLE_FEATURE: tf.io.FixedLenFeature([], tf.string)}
        encoded = tf.io.parse_example(inputs, feature)[EXAMPLE_FEATURE]
        served = serve(decode_batch(encoded, image_shape))
        scores = tf.gather(served["probabilities"], served["top_k"], batch_dims=1)
        return {"classes": served["top_k_names"], "scores": scores}

    class_id_spec = tf.TensorSpec([None], tf.int64, "class_id")
    maps = Endpoint("explain", explain, (images_spec(image_shape), class_id_spec))
    return (
        *image_endpoints(serve, image_shape),
        *((maps,) if explains else ()),
        Endpoint("classify", classify, (tf.TensorSpec([None], tf.string, "inputs"),), True),
    )
