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
from robustcls.classifiers.logits import logits_function
from robustcls.classifiers.ranges import InputRange, Preprocess, preprocessing
from robustcls.models.building import load_classifier

_classifiers: weakref.WeakKeyDictionary[keras.Model, Classifier] = weakref.WeakKeyDictionary()


def adapt(
    model: Any,
    *,
    preprocess: Preprocess | None = None,
    input_range: InputRange | None = None,
    signature: str = "serving_default",
    output: str | None = None,
) -> Classifier:
    """Makes any classifier attackable: images in [0, 1] in, logits out.

    A softmax at the end of a Keras model is left out. Where only probabilities can be had (a
    SavedModel, a subclassed Keras model, a function), their logarithms serve as logits: margins
    and cross-entropy, and their gradients, are those of the logits as long as no probability
    underflows to 0; export logits where you can.

    Args:
        model: a `keras.Model`; the path of a `.keras` file or of a SavedModel folder; or any
            function of images, float32 NumPy [N, H, W, C], to scores [N, classes], which only
            attacks without gradients (`Square`) can use.
        preprocess: what the model wants done to images in [0, 1] first, for example `lambda images:
            255 * images`. It gets what the model gets: a tensor, or a NumPy array for a plain
            function. Radii stay in units of [0, 1] (default None).
        input_range: short for a `preprocess` that scales: what the model wants 0 and 1 to be, for
            example (0, 255) or (-1, 1). A Keras model whose first layers want another range than
            [0, 1] is refused without (default None).
        signature: of a SavedModel (str, default "serving_default").
        output: which output of a SavedModel's signature holds the logits, where it has several and
            none is named "logits" (str or None, default None).

    Raises:
        InputError: the model cannot be loaded, has several inputs or outputs, or wants other pixels
            than it would get.
    """
    if isinstance(model, str | Path):
        path = Path(model)
        if (path / "saved_model.pb").is_file():
            before = preprocessing(preprocess=preprocess, input_range=input_range)
            return _from_saved_model(path, before, signature, output)
        if path.is_dir():
            raise InputError(
                f"model must be a .keras file or a SavedModel folder; {path} holds no "
                "saved_model.pb."
            )
        model = load_classifier(path)
    before = preprocessing(model, preprocess=preprocess, input_range=input_range)
    if isinstance(model, keras.Model):
        return _from_keras(model, lambda: model, before)
    if isinstance(model, Classifier):
        raise InputError("model must not be adapted twice; received a Classifier.")
    if not callable(model):
        raise InputError(
            "model must be a keras.Model, a path or a function from images to scores; "
            f"received {type(model).__name__}."
        )
    function: Callable[[np.ndarray], Any] = model
    return Classifier(
        function if before is None else _after(before, function),
        name=getattr(model, "__name__", type(model).__name__),
        differentiable=False,
    )


def classifier_of(
    model: Any, *, preprocess: Preprocess | None = None, input_range: InputRange | None = None
) -> Classifier:
    """Returns `model` as a classifier; the same one for the same Keras model each time.

    Args:
        model: what `adapt` takes or returns.
        preprocess: as for `adapt` (default None).
        input_range: as for `adapt` (default None).
    """
    if preprocess is not None or input_range is not None:
        return adapt(model, preprocess=preprocess, input_range=input_range)
    if isinstance(model, Classifier):
        return model
    if not isinstance(model, keras.Model):
        return adapt(model)
    if model not in _classifiers:
        preprocessing(model)  # refuses pixels that the model was not made for
        # The dictionary's values must not keep its keys alive.
        _classifiers[model] = _from_keras(model, weakref.ref(model), None)
    return _classifiers[model]


def _from_keras(
    model: keras.Model,
    reference: Callable[[], Any],
    preprocess: Preprocess | None,
) -> Classifier:
    # A subclassed model knows neither its inputs nor its outputs.
    inputs, outputs = getattr(model, "inputs", None) or [], getattr(model, "outputs", None) or []
    if inputs and (len(inputs) != 1 or len(outputs) != 1):
        raise InputError(
            f"model must have one input and one output; received {len(inputs)} and {len(outputs)}."
        )
    if inputs and len(inputs[0].shape) != 4:
        raise InputError(
            f"model must take images [N, H, W, C]; its input is {tuple(inputs[0].shape)}."
        )
    if inputs and preprocess is None and not tf.as_dtype(inputs[0].dtype).is_floating:
        raise InputError(
            "model must take float images in [0, 1], or be given what it wants by preprocess; "
            f"its input is {inputs[0].dtype}."
        )
    folded = FoldedModels()
    function = logits_function(model, folded.function) if inputs else None
    if function is None:
        function = folded.function(reference)
    return Classifier(
        function if preprocess is None else _after(preprocess, function),
        name=model.name,
        differentiable=True,
        image_shape=tuple(inputs[0].shape[1:]) if inputs and preprocess is None else None,
        refresh=folded.refresh,
    )


def _after(preprocess: Preprocess, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda images: function(preprocess(images))


def _from_saved_model(
    path: Path,
    preprocess: Preprocess | None,
    signature: str,
    output: str | None,
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
            f"model must take float images in [0, 1], or be given what it wants by preprocess; "
            f"signature {signature} of {path} takes {spec.dtype.name}."
        )
    outputs = sorted(function.structured_outputs)
    if output is None and len(outputs) == 1:
        output = outputs[0]
    chosen = check_choice("output", output or "logits", outputs)

    def call(images: tf.Tensor) -> tf.Tensor:
        # The loaded object owns the variables: naming it here keeps them.
        return loaded.signatures[signature](**{input_name: images})[chosen]

    return Classifier(
        call if preprocess is None else _after(preprocess, call),
        name=f"{path.name} ({signature})",
        differentiable=True,
        image_shape=tuple(spec.shape[1:]) if preprocess is None else None,
    )
