"""Concepts of a class: recurring parts of the feature maps of its images, and what they count."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from scipy.stats import qmc
from sklearn.decomposition import non_negative_factorization
from sklearn.exceptions import ConvergenceWarning

from robustcls._notebook import Brief, Briefly
from robustcls._settings import NonNegativeInt, PositiveInt, checked
from robustcls._validation import InputError, check_images
from robustcls.explanation.explainer import Explainer

# Masks of each of the two samples that Sobol indices are made of.
_DESIGNS = 32
_ITERATIONS = 400


@dataclass(frozen=True, eq=False, repr=False)
class Concepts(Briefly):
    """What a class is made of to a model.

    Attributes:
        label: the class.
        bank: float32 [K, channels], the concepts: directions of the layer's channels, the most
            important first.
        importance: float64 [K], the mean total Sobol index over the images: how much of what the
            class's logit varies by, as concepts come and go, is due to each.
        maps: float32 [N, h, w, K], how much of each concept is where in the images they are of.
        left: how much of the feature maps, where positive, the concepts do not make up, as a share
            of its square.
        layer: whose feature maps they are.
    """

    label: int
    bank: np.ndarray
    importance: np.ndarray
    maps: np.ndarray
    left: float
    layer: str

    def brief(self) -> Brief:
        rows = [[str(at), f"{value:.2f}"] for at, value in enumerate(self.importance)]
        line = f"{len(self.bank)} concepts of class {self.label}, layer {self.layer}"
        return Brief(line, ("concept", "importance"), rows)

    def of(self, explainer: Explainer, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the maps, float32 [n, h, w, K], and the importance, float64 [K], in other images.

        Of attacked twins the importance says what the attack plays on.

        Args:
            explainer: of the same model.
            images: float32 [n, H, W, C] in [0, 1].

        Raises:
            InputError: they do not fit the model.
        """
        images = check_images(images)
        explainer.prepare(images)
        features = _features(explainer, images)
        maps = _parts(np.maximum(features, 0), self.bank)
        return maps, _importance(explainer, images.shape[1:], features, maps, self.bank, self.label)


@checked
def find_concepts(
    explainer: Explainer,
    images: np.ndarray,
    label: NonNegativeInt,
    *,
    count: PositiveInt = 6,
    seed: NonNegativeInt = 0,
) -> Concepts:
    """Takes the feature maps of a class's images apart, and tells what each part counts.

    At every place of the layer's feature map the channels are a sum of a few concepts that all
    images share, found by non-negative matrix factorization of what is positive. A concept's
    importance is its total Sobol index: concepts are taken away from the feature map to a random
    degree each, and the index is the share of the logit's variance that is due to the concept,
    alone or with others.

    Source: Fel et al., "CRAFT: concept recursive activation factorization for explainability",
    2023, sections 3.1 and 3.3; patches are the places of the feature map, in place of crops, and
    what the factorization leaves over stays in the feature map, so that with all concepts there the
    logit is the model's own. Jansen, "Analysis of variance designs for model output", 1999, for the
    estimator.

    Args:
        explainer: of the model; its layer is where concepts are looked for.
        images: float32 [N, H, W, C] in [0, 1], that the model takes for the class.
        label: the class (int >= 0).
        count: of the concepts (int >= 1, default 6).
        seed: of where the factorization begins (int >= 0, default 0).

    Raises:
        InputError: images or the class do not fit the model, it has no layer with a feature map, or
            the feature maps have fewer places or channels than there are to be concepts.
    """
    images = check_images(images)
    width = explainer.prepare(images)
    if label >= width:
        raise InputError(f"label must be one of the model's {width} classes; received {label}.")
    features = _features(explainer, images)
    positive = np.maximum(features, 0)
    flat = positive.reshape(-1, positive.shape[-1])
    if min(flat.shape) < count:
        raise InputError(
            f"count must be at most {min(flat.shape)}, the places or channels of the feature maps "
            f"of {len(images)} images; received {count}."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # `left` says how good it is
        _, bank, _ = non_negative_factorization(
            flat, n_components=count, init="nndsvda", random_state=seed, max_iter=_ITERATIONS
        )
    # Of length 1, so that maps can be compared with each other.
    lengths = np.linalg.norm(bank, axis=1, keepdims=True)
    bank = np.divide(bank, lengths, np.zeros_like(bank), where=lengths > 0).astype(np.float32)
    maps = _parts(positive, bank)
    shape = images.shape[1:]
    order = np.argsort(-_importance(explainer, shape, features, maps, bank, label), kind="stable")
    bank, maps = bank[order], maps[..., order]
    # Once more in that order, in which other images' are measured: masks belong to places.
    importance = _importance(explainer, shape, features, maps, bank, label)
    left = float(((positive - maps @ bank) ** 2).sum() / max(float((positive**2).sum()), 1e-12))
    return Concepts(label, bank, importance, maps, left, explainer.layer)


def _features(explainer: Explainer, images: np.ndarray) -> np.ndarray:
    """float32 [N, h, w, channels]."""
    network, layer = explainer.network_and_layer()
    lower = explainer.remember("lower", lambda: keras.Model(network.inputs[0], layer.output))

    def features(images: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
        return tf.cast(lower(images, training=False), tf.float32)

    compiled = explainer.compiled("features", features, images)
    size, none = explainer.batch_size, np.zeros(explainer.batch_size, np.int64)
    starts = range(0, len(images), size)
    return np.concatenate([compiled(images[at : at + size], none).numpy() for at in starts])


def _parts(positive: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """float32 [N, h, w, K], of which concepts what is positive is made."""
    flat = positive.reshape(-1, positive.shape[-1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found, _, _ = non_negative_factorization(
            flat, H=bank.astype(flat.dtype), n_components=len(bank), update_H=False, init="custom",
            max_iter=_ITERATIONS,
        )  # fmt: skip
    return found.reshape(*positive.shape[:-1], len(bank)).astype(np.float32)


def _importance(
    explainer: Explainer,
    shape: tuple[int, ...],
    features: np.ndarray,
    maps: np.ndarray,
    bank: np.ndarray,
    label: int,
) -> np.ndarray:
    """Mean total Sobol indices, float64 [K]; 0 for images whose logit does not vary."""
    count = len(bank)
    drawn = qmc.Sobol(2 * count, seed=0).random(_DESIGNS).astype(np.float32)
    first, second = drawn[:, :count], drawn[:, count:]
    mixed = np.repeat(first[None], count, axis=0)
    mixed[np.arange(count), :, np.arange(count)] = second.T
    masks = np.concatenate([first, mixed.reshape(-1, count)])
    upper = _upper(explainer, shape, features.shape[1:])
    found = []
    for feature, own in zip(features, maps, strict=True):
        logits = []
        for start in range(0, len(masks), _DESIGNS):
            gone = 1 - masks[start : start + _DESIGNS]
            without = feature - (own * gone[:, None, None]) @ bank
            logits.append(upper(without)[:, label])
        heights = np.concatenate(logits).astype(np.float64).reshape(count + 1, _DESIGNS)
        variance = heights[0].var()
        total = ((heights[0] - heights[1:]) ** 2).mean(axis=1) / 2
        found.append(total / variance if variance > 0 else np.zeros(count))
    return np.mean(found, axis=0)


def _upper(explainer: Explainer, shape: tuple[int, ...], small: tuple[int, ...]) -> Any:
    """Feature maps float32 [n, h, w, channels] to logits [n, classes], both arrays."""
    network, layer = explainer.network_and_layer()

    def logits(features: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
        def call(operation: Any, *arguments: Any, **settings: Any) -> Any:
            outputs = operation(*arguments, **settings)
            return tf.cast(features, outputs.dtype) if operation is layer else outputs

        # What lies below the layer is not needed for the outputs, and no graph computes it.
        images = tf.zeros([tf.shape(features)[0], *shape])
        (found,) = tf.nest.flatten(network._run_through_graph([images], call_fn=call))
        return tf.cast(found, tf.float32)

    compiled = explainer.compiled("upper", logits, np.zeros((1, *small), np.float32))
    return lambda features: compiled(features, np.zeros(len(features), np.int64)).numpy()
