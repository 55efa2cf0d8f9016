"""One flat graph that ends in logits, which is what class activation maps need."""

from __future__ import annotations

from typing import Any

import keras

from robustcls.classifiers.logits import logits_function


def flatten(model: keras.Model) -> keras.Model | None:
    """Returns `model` as one flat graph from images to logits.

    Args:
        model: a functional or sequential model with one input and one output.

    Returns:
        The model itself when it is flat, none of its layers is part of another graph too, and
        it has no softmax at its end; else a copy, with copies of the weights, in which nested
        models are replaced by their layers and the softmax is gone. None for a subclassed
        model, whose graph Keras does not know, and for an end in softmax that cannot be taken
        apart.
    """
    if not getattr(model, "inputs", None) or not getattr(model, "outputs", None):
        return None
    # `layer.output`, which tf-keras-vis goes by, is where a layer was called first.
    elsewhere = any(
        isinstance(layer, keras.Model) or len(layer._inbound_nodes) > 1 for layer in model.layers
    )
    if not elsewhere and logits_function(model, lambda made: made()) is None:
        return model
    try:
        return _linear_end(_inline(model))
    except NotImplementedError:  # a layer without `from_config`, or a nested subclassed model
        return None


def _inline(model: keras.Model) -> keras.Model:
    copies: dict[int, Any] = {}
    names: set[str] = set()

    def copy(operation: Any) -> Any:
        # A model is not copied but taken apart where it is called; `keras.ops` have no state.
        if isinstance(operation, keras.Model) or not isinstance(operation, keras.layers.Layer):
            return operation
        if id(operation) not in copies:
            config = operation.get_config()
            while config["name"] in names:
                config["name"] += "_nested"
            names.add(config["name"])
            copies[id(operation)] = type(operation).from_config(config), operation
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
        keras.Model(model.inputs, model.outputs, name=model.name),
        clone_function=copy,
        call_function=call,
    )
    for layer, original in copies.values():
        layer.set_weights(original.get_weights())
    return flat


def _linear_end(flat: keras.Model) -> keras.Model:
    """Takes the softmax off the end of a flat copy, which nobody else uses."""
    history = flat.outputs[0]._keras_history
    last = history.operation
    if getattr(last, "activation", None) is keras.activations.softmax:
        last.activation = keras.activations.linear
    elif isinstance(last, keras.layers.Softmax) or (
        not isinstance(last, keras.layers.Layer) and type(last).__name__ == "Softmax"
    ):
        sources = last._inbound_nodes[history.node_index].input_tensors
        return keras.Model(flat.inputs, sources[0], name=flat.name)
    return flat
