"""Functions compiled once for a model and a shape of images."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf


def compile_once(function: Callable[..., Any], signature: Sequence[Any]) -> Any:
    """Returns the compiled form of a function that is traced once.

    Args:
        function: of tensors, or of dictionaries of them, to tensors.
        signature: a `tf.TensorSpec`, or a dictionary of them, for each argument.
    """

    # With `tf.config.run_functions_eagerly(True)` arguments come as they are.
    def of_tensors(*arguments: Any) -> Any:
        return function(*tf.nest.map_structure(tf.convert_to_tensor, arguments))

    # TensorFlow warns of retracing by counting the tracings of one piece of code, and this one is
    # traced for every model; a partial object counts for itself.
    counted = functools.partial(of_tensors)
    return tf.function(counted, input_signature=list(signature), autograph=False)
