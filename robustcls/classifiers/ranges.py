"""What a model wants images in [0, 1] to become: one argument for every entry.

Images and epsilons are in units of [0, 1] everywhere. A model that wants other pixels is given them
by `input_range`, or by `preprocess` where a range does not say enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from scipy.stats import binom

from robustcls._validation import InputError, check_number
from robustcls.classifiers.answers import is_right

Preprocess = Callable[[Any], Any]
InputRange = tuple[float, float]

UNIT: InputRange = (0.0, 1.0)
#: What models take besides [0, 1]: bytes, and the pixels of `keras.applications`' mode "tf".
OTHERS: tuple[InputRange, ...] = ((0.0, 255.0), (-1.0, 1.0))
# A network's first weights want values of about unit size: fewer than that between black and
# white, and the range that goes in is not the one that was meant.
_NARROW = 0.2
#: Images that accuracy in another range is tried on, at most.
LOOKED_AT = 128
_CHANCE = 1e-3
# A scale that no logits have, and that bytes do.
_SMALL = 0.01
_SIDE = 32


@dataclass(frozen=True)
class Scaling:
    """Images in [0, 1] to another range.

    Attributes:
        low, high: what becomes of 0 and 1.
    """

    low: float
    high: float

    def __call__(self, images: Any) -> Any:
        return self.low + (self.high - self.low) * images


def preprocessing(
    model: Any = None,
    *,
    preprocess: Preprocess | None = None,
    input_range: InputRange | None = None,
) -> Preprocess | None:
    """Returns what is done to images in [0, 1] before a model gets them.

    Args:
        model: a Keras model, whose first layers are looked at when nothing is said about its range;
            others say nothing (default None).
        preprocess: a function of images in [0, 1] to what the model wants (default None).
        input_range: (low, high), what the model wants 0 and 1 to be, for example (0, 255) or
            (-1, 1); (0, 1) leaves the images as they are, whatever the layers say (default None).

    Returns:
        A function of images, tensors or NumPy arrays; None when they go in as they are.

    Raises:
        InputError: both are given, the range is no two ascending numbers, or neither is given and
            the first layers want another range than [0, 1]: the message says which to pass.
    """
    if preprocess is not None:
        if input_range is not None:
            raise InputError(
                f"preprocess must not come with input_range, which is short for one; received "
                f"both, input_range={input_range!r}."
            )
        if not callable(preprocess):
            raise InputError(
                f"preprocess must be a function of images in [0, 1]; received {preprocess!r}."
            )
        return preprocess
    if input_range is None:
        _require_unit_range(model)
        return None
    low, high = check_input_range(input_range)
    return None if (low, high) == UNIT else Scaling(low, high)


def check_input_range(input_range: Any) -> InputRange:
    """Returns (low, high) as floats.

    Args:
        input_range: two ascending numbers.

    Raises:
        InputError: it is anything else.
    """
    try:
        low, high = (check_number("input_range", float(end)) for end in input_range)
        good = low < high
    except (InputError, TypeError, ValueError):
        good = False
    if not good:
        raise InputError(
            "input_range must be two ascending numbers, what the model wants 0 and 1 to be, for "
            f"example (0, 255); received {input_range!r}."
        )
    return low, high


def range_of_layers(model: Any) -> tuple[InputRange, str] | None:
    """Returns the range of pixels that the first layers of a model are made for.

    What comes before the first weights (rescaling, normalization, operations, also within nested
    models) is given black and white in each range: it fits when white and black end up apart, on
    both sides of 0 or from 0 on. Of a subclassed model no order is known, so only a layer says
    something that makes a hundredth of its input, as `Rescaling(1/255)` does.

    Args:
        model: anything; only a Keras model of float images has an answer.

    Returns:
        The range, and the names of the layers; None when they say nothing, as in a model whose
        first layer is a convolution.
    """
    if isinstance(model, keras.Model) and not getattr(model, "inputs", None):
        shrinking = [layer.name for layer in model._flatten_layers() if _shrinks(layer)]
        return (OTHERS[0], shrinking[0]) if shrinking else None
    try:
        parts, names = _first_layers(model)
        ends = [*UNIT, *(end for one in OTHERS for end in one)]
        shape = [_SIDE if side is None else side for side in model.inputs[0].shape[1:]]
        values = np.asarray(ends, np.float32).reshape(-1, *[1] * len(shape))
        found: Any = tf.cast(np.broadcast_to(values, [len(ends), *shape]), model.inputs[0].dtype)
        for part in parts:
            found = part(found, training=False)
        features = np.asarray(tf.cast(found, tf.float32))
    except Exception:  # whatever foreign layers raise: then they say nothing
        return None
    changing = features[2] != features[3]
    black, white = features[0::2][:, changing], features[1::2][:, changing]
    if not changing.any() or (np.array_equal(black[0], black[0] * 0) and np.all(white[0] == 1)):
        return None
    fits = [_fits(*pair) for pair in zip(black, white, strict=True)]
    for fit, one in zip(fits, (UNIT, *OTHERS), strict=True):
        if fit:
            return one, names
    return None


def require_fitting_range(
    classifier: Any, images: np.ndarray, labels: np.ndarray, right: np.ndarray | None = None
) -> None:
    """Refuses a model that guesses on images in [0, 1] and knows them in another range.

    Looked at once for a model, on up to `LOOKED_AT` images, and not at all where the range was
    given. Another range must be right where [0, 1] is wrong so often that chance does it once in a
    thousand times (sign test), and more often than always the same class would be.

    Args:
        classifier: what `adapt` returns; `prepare` has seen the images.
        images: float32 in [0, 1] or uint8, [N, H, W, C].
        labels: int64 [N], or a `MultiHot`.
        right: bool [N], which are classified right, where that is known (default None).

    Raises:
        InputError: another range is clearly better; the message says which to pass.
    """
    if classifier.range_is_known:
        return
    places = np.linspace(0, len(images) - 1, min(len(images), LOOKED_AT)).astype(int)
    few, labels = images[places], labels[places]
    few = few.astype(np.float32) / np.float32(255) if few.dtype == np.uint8 else few

    def hits(pixels: np.ndarray) -> np.ndarray:
        return is_right(classifier.predict(pixels), labels)

    share = np.unique(labels, axis=0, return_counts=True)[1].max() / len(labels)
    guessing = len(labels) * share + 3 * np.sqrt(len(labels) * share * (1 - share))
    own = hits(few) if right is None else right[places]
    # Of too few wrong ones no other range can be shown to be right.
    enough = 0.5 ** int((~own).sum()) < _CHANCE
    if enough and own.sum() <= guessing:
        for low, high in OTHERS:
            try:
                other = hits(Scaling(low, high)(few))
            except InputError:  # it takes no such pixels
                continue
            gained, lost = int((other & ~own).sum()), int((own & ~other).sum())
            clear = gained and binom.sf(gained - 1, gained + lost, 0.5) < _CHANCE
            if clear and other.sum() > guessing:
                raise InputError(
                    "model must be given the pixels it was made for: of "
                    f"{len(labels)} images it is right on {own.sum()} in [0, 1] and on "
                    f"{other.sum()} of the same in [{low:g}, {high:g}]. Did you mean "
                    f"input_range=({low:g}, {high:g})? With input_range=(0, 1) it is measured as "
                    "it is."
                )
    classifier.range_is_known = True


def _require_unit_range(model: Any) -> None:
    found = range_of_layers(model)
    if found is not None and found[0] != UNIT:
        raise InputError(
            f"model must be given the pixels it was made for: its first layers ({found[1]}) take "
            f"{found[0][0]:g} to {found[0][1]:g}, and images here are in [0, 1]. Did you mean "
            f"input_range=({found[0][0]:g}, {found[0][1]:g})? Or input_range=(0, 1), if it was "
            "trained on images in [0, 1]."
        )


def _fits(black: np.ndarray, white: np.ndarray) -> bool:
    width = np.abs(white - black)
    low, high = np.minimum(black, white), np.maximum(black, white)
    slack = np.minimum(0.05 * width, 0.1)
    around_zero = (low <= slack) & (high >= -slack)
    return bool(((width >= _NARROW) & around_zero).mean() > 0.5)


def _first_layers(model: Any) -> tuple[list[keras.Model], str]:
    """Models that, one after another, are all that comes before the first weights; their names."""
    parts, names = [], []
    while model is not None:
        boundary, inner = None, None
        for node in _nodes(model):
            operation = node.operation
            if _has_weights(operation):
                boundary = node.input_tensors[0]
                inner = operation if getattr(operation, "inputs", None) else None
                break
            if not isinstance(operation, keras.layers.InputLayer):
                names.append(operation.name)
        if boundary is None:
            raise InputError("model must have weights.")
        parts.append(keras.Model(model.inputs[0], boundary))
        model = inner
    return parts, ", ".join(names[-3:])


def _nodes(model: keras.Model) -> Iterator[Any]:
    """The calls of a graph, the first ones first."""
    graph = keras.Model(model.inputs, model.outputs)
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        yield from graph._nodes_by_depth[depth]


def _has_weights(operation: Any) -> bool:
    if isinstance(operation, keras.Model):
        return any(_has_weights(layer) for layer in operation.layers)
    return bool(getattr(operation, "weights", None)) and not isinstance(
        operation, keras.layers.Normalization
    )


def _shrinks(layer: Any) -> bool:
    return isinstance(layer, keras.layers.Rescaling) and bool(np.abs(layer.scale).max() <= _SMALL)
