"""Makes a `Classifier` of a Keras model, a saved model or a plain function."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robustcls._validation import InputError, check_choice
from robustcls.classifiers.classifier import Classifier
from robustcls.classifiers.folded import FoldedModels
from robustcls.classifiers.graphs import as_graph, as_kind, of_shape, one_of
from robustcls.classifiers.loading import open_model, range_of_trainer
from robustcls.classifiers.logits import logits_function
from robustcls.classifiers.ranges import InputRange, Preprocess, preprocessing

_classifiers: weakref.WeakKeyDictionary[keras.Model, Classifier] = weakref.WeakKeyDictionary()


def adapt(
    model: Any,
    *,
    preprocess: Preprocess | None = None,
    input_range: InputRange | None = None,
    signature: str = "serving_default",
    output: str | int | None = None,
) -> Classifier:
    """Makes any classifier attackable: images in [0, 1] in, logits out, one for each class.

    What the model returns is read by how it ends: a final softmax, or sigmoids, are left out, what
    follows them (dropout, reshaping, a nested model's end) included. One output, a logit or a
    sigmoid, is that of class 1 of two. Where only probabilities can be had (a SavedModel, a
    subclassed Keras model, a function), logits are recovered from them: margins and cross-entropy,
    and their gradients, are those of the model's own logits as long as no probability underflows
    to 0; export logits where you can.

    Args:
        model: a `keras.Model` or a trainer of this package; the path of a `.keras` file, of a run
            (its last trained model is meant) or of a SavedModel folder; or any function of images,
            float32 NumPy [N, H, W, C], to scores [N, classes], which only attacks without gradients
            (`Square`) can use.
        preprocess: what the model wants done to images in [0, 1] first, for example `lambda images:
            255 * images`. It gets what the model gets: a tensor, or a NumPy array for a plain
            function. Radii stay in units of [0, 1] (default None).
        input_range: short for a `preprocess` that scales: what the model wants 0 and 1 to be, for
            example (0, 255) or (-1, 1). A Keras model whose first layers want another range than
            [0, 1] is refused without (default None).
        signature: of a SavedModel (str, default "serving_default").
        output: which output holds the scores, by name or number, where there are several. Of a
            SavedModel's, one named "logits" is taken by itself (str, int or None, default None).

    Raises:
        InputError: the model cannot be loaded, has several inputs, or outputs of which none is
            chosen, or wants other pixels than it would get.
    """
    if isinstance(model, Classifier):
        raise InputError("model must not be adapted twice; received a Classifier.")
    opened = open_model(model)
    if preprocess is None and input_range is None:
        input_range = range_of_trainer(model)
    before = preprocessing(opened, preprocess=preprocess, input_range=input_range)
    made = _adapted(opened, before, signature, output, keeps_shape=preprocess is None)
    made.range_is_known = preprocess is not None or input_range is not None
    return made


def _adapted(
    opened: Any,
    before: Preprocess | None,
    signature: str,
    output: str | int | None,
    keeps_shape: bool,
) -> Classifier:
    if isinstance(opened, Path):
        return _from_saved_model(opened, before, signature, output, keeps_shape)
    if isinstance(opened, keras.Model):
        return _from_keras(opened, lambda: opened, before, output, keeps_shape)
    if not callable(opened):
        raise InputError(
            "model must be a keras.Model, a path or a function from images to scores; "
            f"received {type(opened).__name__}."
        )
    function: Callable[[np.ndarray], Any] = opened
    return Classifier(
        function if before is None else _after(before, function),
        name=getattr(opened, "__name__", type(opened).__name__),
        differentiable=False,
    )


def classifier_of(
    model: Any,
    *,
    preprocess: Preprocess | None = None,
    input_range: InputRange | None = None,
    output: str | int | None = None,
) -> Classifier:
    """Returns `model` as a classifier; the same one for the same Keras model each time.

    Args:
        model: what `adapt` takes or returns.
        preprocess: as for `adapt` (default None).
        input_range: as for `adapt` (default None).
        output: as for `adapt` (default None).
    """
    if preprocess is None and input_range is None:
        input_range = range_of_trainer(model)
    if preprocess is not None or input_range is not None or output is not None:
        return adapt(model, preprocess=preprocess, input_range=input_range, output=output)
    if isinstance(model, Classifier):
        return model
    opened = open_model(model)
    if not isinstance(opened, keras.Model):
        return adapt(opened)
    known = _classifiers.get(opened)
    # One that was not built when it was first seen knows its layers now.
    if known is None or known.is_graph != _is_graph(opened):
        preprocessing(opened)  # refuses pixels that the model was not made for
        # The dictionary's values must not keep its keys alive.
        known = _classifiers[opened] = _from_keras(opened, weakref.ref(opened))
    return known


def _is_graph(model: keras.Model) -> bool:
    """Whether a model knows its inputs and outputs: a subclassed one does not."""
    return bool(getattr(model, "inputs", None) and getattr(model, "outputs", None))


def _from_keras(
    model: keras.Model,
    reference: Callable[[], Any],
    before: Preprocess | None = None,
    output: str | int | None = None,
    keeps_shape: bool = True,
) -> Classifier:
    folded = FoldedModels()
    function, ending, shape = None, "unknown", None
    if _is_graph(model):
        graph = as_graph(model, output)
        inputs = graph.inputs[0]
        if before is None and not tf.as_dtype(inputs.dtype).is_floating:
            raise InputError(
                "model must take float images in [0, 1], or be given what it wants by preprocess "
                f"or input_range; its input is {inputs.dtype}."
            )
        function, ending = logits_function(graph, folded.function)
        shape = tuple(inputs.shape[1:]) if keeps_shape else None
        if function is None:
            function = folded.function(reference if graph is model else lambda: graph)
    else:

        def function(images: tf.Tensor) -> tf.Tensor:
            known = reference()
            if not known.built:
                # A graph may be traced once more, and variables made only once.
                with tf.init_scope():
                    known(tf.zeros([1, *images.shape[1:]]))
            return one_of(known(images, training=False), output)

    scaled = before
    if before is not None and _is_graph(model) and inputs.dtype != "float32":

        def scaled(images: tf.Tensor) -> tf.Tensor:
            return as_kind(before(images), tf.as_dtype(inputs.dtype))

    return Classifier(
        function if scaled is None else _after(scaled, function),
        name=model.name,
        differentiable=True,
        image_shape=shape,
        refresh=folded.refresh,
        ending=ending,
        is_graph=_is_graph(model),
        graph=lambda image_shape: of_shape(reference(), image_shape, before, output),
    )


def _after(preprocess: Preprocess, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda images: function(preprocess(images))


def _from_saved_model(
    path: Path,
    preprocess: Preprocess | None,
    signature: str,
    output: str | int | None,
    keeps_shape: bool,
) -> Classifier:
    try:
        loaded = tf.saved_model.load(str(path))
    except (OSError, ValueError, tf.errors.OpError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"model must be a SavedModel; {path} cannot be read: {reason}") from None
    function = loaded.signatures[check_choice("signature", signature, loaded.signatures)]
    inputs = function.structured_input_signature[1]
    if len(inputs) != 1:
        raise InputError(
            f"model must have one input; signature {signature} of {path} takes "
            f"{', '.join(sorted(inputs))}."
        )
    ((input_name, spec),) = inputs.items()
    if spec.shape.rank != 4 or spec.shape[0] is not None:
        raise InputError(
            f"model must take images [N, H, W, C] for any N; signature {signature} of {path} "
            f"takes {spec.shape}."
        )
    if not spec.dtype.is_floating and preprocess is None:
        raise InputError(
            "model must take float images in [0, 1], or be given what it wants by input_range, for "
            f"example (0, 255), or preprocess; signature {signature} of {path} takes "
            f"{spec.dtype.name}."
        )
    outputs = sorted(function.structured_outputs)
    if output is None:
        output = outputs[0] if len(outputs) == 1 else "logits"
    chosen = check_choice("output", str(output), outputs)

    def call(images: tf.Tensor) -> tf.Tensor:
        # The loaded object owns the variables: naming it here keeps them.
        return loaded.signatures[signature](**{input_name: as_kind(images, spec.dtype)})[chosen]

    return Classifier(
        call if preprocess is None else _after(preprocess, call),
        name=f"{path.name} ({signature})",
        differentiable=True,
        image_shape=tuple(spec.shape[1:]) if keeps_shape else None,
    )
