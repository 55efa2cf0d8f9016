"""Attention rollout."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robustcls._validation import InputError
from robustcls.explanation.methods.maps import Maps
from robustcls.explanation.methods.registry import register_explanation
from robustcls.explanation.methods.resampling import enlarge


@register_explanation()
def attention_rollout(explainer: Any, images: np.ndarray, classes: np.ndarray) -> Maps:
    """How much of each patch reaches the answer of a transformer through its attention.

    The layers' attention, the mean over heads and half of it the skip connection, multiplied from
    the first to the last; the row of the class token where there is one, else the mean of all.
    It is the same for every class.

    Source: Abnar and Zuidema, "Quantifying attention flow in transformers", 2020, section 3.
    """
    network = explainer.network("attention_rollout")
    if not any(map(_attends, network.operations)):
        raise InputError(
            "model must have layers of self-attention (keras.layers.MultiHeadAttention) for "
            f"attention_rollout; '{network.name}' has none. Did you mean methods=['gradients']?"
        )

    def rollout(images: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
        seen: list[tf.Tensor] = []

        def call(operation: Any, *arguments: Any, **settings: Any) -> Any:
            if not _attends(operation):
                return operation(*arguments, **settings)
            outputs, scores = operation(*arguments, **settings | {"return_attention_scores": True})
            seen.append(tf.reduce_mean(tf.cast(scores, tf.float32), 1))
            return outputs

        network._run_through_graph([images], call_fn=call)
        reached = tf.eye(seen[0].shape[-1])
        for scores in seen:
            if scores.shape[1:] != reached.shape[-2:]:
                raise InputError(
                    "model must attend to the same tokens in all layers for attention_rollout; "
                    f"received {scores.shape[1:]} after {reached.shape[-2:]}."
                )
            both = (scores + tf.eye(scores.shape[-1])) / 2
            reached = both @ reached
        return reached

    found = explainer.compiled("attention_rollout", rollout, images)(images, classes)
    reached = np.asarray(found)
    rows, columns, has_class_token = _grid(network, reached.shape[-1])
    tokens = reached[:, 0, 1:] if has_class_token else reached.mean(axis=1)
    small = tokens.reshape(-1, rows, columns)
    return Maps(enlarge(small, *images.shape[1:3]), resolution=(rows, columns))


def _attends(operation: Any) -> bool:
    return isinstance(operation, keras.layers.MultiHeadAttention)


def _grid(network: keras.Model, tokens: int) -> tuple[int, int, bool]:
    """(rows, columns, whether a class token stands before them)."""
    for layer in reversed(network.layers):
        shape: tuple[int | None, ...] = getattr(layer.output, "shape", ())
        rows, columns = shape[1:3] if len(shape) == 4 else (None, None)
        if rows is not None and columns is not None and tokens - rows * columns in (0, 1):
            return rows, columns, tokens > rows * columns
    for count in (tokens, tokens - 1):
        side = math.isqrt(count)
        if side * side == count and count:
            return side, side, tokens > count
    raise InputError(
        f"model must make its tokens of a grid of patches for attention_rollout; received {tokens}."
    )
