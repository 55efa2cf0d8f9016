"""One flat graph that ends in logits: what class activation maps, bounds and exports need."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from robustcls.classifiers.classifier import Classifier
from robustcls.classifiers.logits import find_ending, without_ending
from robustcls.classifiers.outputs import ToLogits
from robustcls.models.stock import CANNOT_BE_COPIED, copy_layer

# Of the largest logit; a layer that is not what its configuration says changes it by far more.
_TOLERANCE = 1e-2


def flat_logits(classifier: Classifier, images: np.ndarray) -> keras.Model | None:
    """Returns a Keras model as a flat graph, images in [0, 1] to logits float32 [N, classes].

    Args:
        classifier: of a Keras model; `prepare` has seen the images.
        images: float32 [N, H, W, C] in [0, 1]; of their shape the graph is, and on the first of
            them it must agree with the model.

    Returns:
        The model itself where it is of this form; else a copy, with copies of the weights. None
        for a model whose layers cannot be told apart or copied.
    """
    if not classifier.is_graph or classifier.graph is None:
        return None
    flat = flatten(classifier.graph(images.shape[1:]))
    if flat is None:
        return None
    scores, read = flat.outputs[0], classifier.outputs
    if read.are_probabilities or read.single or scores.dtype != "float32":
        flat = keras.Model(flat.inputs[0], ToLogits(read, dtype="float32")(scores), name=flat.name)
    few = images[:2]
    expected, found = classifier.predict(few), np.asarray(flat(few, training=False))
    scale = max(1.0, float(np.abs(expected).max()))
    agree = expected.shape == found.shape and np.abs(expected - found).max() <= _TOLERANCE * scale
    return flat if agree else None


def flatten(model: keras.Model) -> keras.Model | None:
    """Returns `model` as one flat graph without the softmax or sigmoids at its end.

    Args:
        model: a functional or sequential model with one input and one output.

    Returns:
        The model itself when it is flat, none of its layers is part of another graph too, and
        it ends in neither; else a copy, with copies of the weights, in which nested models are
        replaced by their layers and the ending is gone, unless it is of a kind that cannot be
        taken apart. None for a subclassed model, whose graph Keras does not know, and for layers
        that cannot be copied.
    """
    if not getattr(model, "inputs", None) or not getattr(model, "outputs", None):
        return None
    # `layer.output`, which tf-keras-vis goes by, is where a layer was called first.
    elsewhere = any(
        isinstance(layer, keras.Model) or len(layer._inbound_nodes) > 1 for layer in model.layers
    )
    if not elsewhere and find_ending(model).kind in ("linear", "unknown"):
        return model
    try:
        return without_ending(_inline(model))
    except CANNOT_BE_COPIED:  # among them nested subclassed models
        return None


def _inline(model: keras.Model) -> keras.Model:
    copies: dict[int, Any] = {}
    names: set[str] = set()

    def copy(operation: Any) -> Any:
        # A model is not copied but taken apart where it is called; `keras.ops` have no state.
        if isinstance(operation, keras.Model) or not isinstance(operation, keras.layers.Layer):
            return operation
        if id(operation) not in copies:
            name = operation.name
            while name in names:
                name += "_nested"
            names.add(name)
            copies[id(operation)] = copy_layer(operation, name=name), operation
        return copies[id(operation)][0]

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(operation, keras.Model):
            return operation(*args, **kwargs)
        if not getattr(operation, "inputs", None):
            raise NotImplementedError
        graph = keras.Model(operation.inputs, operation.outputs)
        outputs = graph._run_through_graph(args[0], operation_fn=copy, call_fn=call)
        return outputs[0] if len(outputs) == 1 else outputs

    flat = keras.models.clone_model(
        keras.Model(model.inputs[0], model.outputs[0], name=model.name),
        clone_function=copy,
        call_function=call,
    )
    for layer, original in copies.values():
        layer.set_weights(original.get_weights())
    return flat
