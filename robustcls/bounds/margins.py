"""Lower bounds of the margins by which a network prefers a label, over a box of images."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import tensorflow as tf

from robustcls.bounds.affine import Affine
from robustcls.bounds.network import Box, Network, Step

Boxes = Mapping[str, Box]
Maps = Mapping[str, Affine]


def interval_margins(network: Network, boxes: Boxes, labels: tf.Tensor) -> tf.Tensor:
    """Returns lower bounds of z_y - z_k by intervals, float32 [N, classes]; 0 for k = y.

    Where the last layer is a dense one, it is merged with the differences of logits.

    Source: Gowal et al., "On the Effectiveness of Interval Bound Propagation for Training
    Verifiably Robust Models", 2018, section 3.

    Args:
        network: of the bounds.
        boxes: of its tensors, see `Network.boxes`.
        labels: int64 [N], y.
    """
    last = network.steps[-1]
    if type(last.layer) is keras.layers.Dense and last.kind == "affine":
        kernel = tf.cast(tf.convert_to_tensor(last.layer.kernel), tf.float32)
        own = tf.gather(tf.transpose(kernel), labels)
        center = boxes[last.output].center
        center = tf.gather(center, labels, batch_dims=1)[:, None] - center
        radius = boxes[last.inputs[0]].radius
        return center - tf.einsum("ni,nik->nk", radius, tf.abs(own[:, :, None] - kernel))
    box = boxes[network.output]
    margins = tf.gather(box.lower, labels, batch_dims=1)[:, None] - box.upper
    return tf.where(tf.one_hot(labels, margins.shape[1], True, False, dtype=tf.bool), 0.0, margins)


def backward_margins(network: Network, boxes: Boxes, maps: Maps, labels: tf.Tensor) -> tf.Tensor:
    """Returns lower bounds of z_y - z_k by one backward pass of lines; as `interval_margins`.

    Each ReLU lies between two lines over its interval: above, the line through its ends; below,
    0 or the identity, whichever leaves the smaller area. The margins are so bounded by a linear
    function of an earlier tensor, in the end of the pixels. A ReLU6 is made of two ReLUs, a leaky
    one of a ReLU and a line. A maximum over places lies above the place whose lower end is the
    largest, and below the upper end of all. At other activations the interval takes over.

    Source: Zhang et al., "Towards Stable and Efficient Training of Verifiably Robust Neural
    Networks" (CROWN-IBP), 2020, section 3.2.

    Args:
        network: of the bounds.
        boxes: of its tensors, see `Network.boxes`.
        maps: its affine maps, see there.
        labels: int64 [N], y.
    """
    classes = boxes[network.output].lower.shape[-1]
    unit = tf.eye(classes)
    first = tf.gather(unit, labels)[:, None, :] - unit[None]
    slopes = {network.output: tf.reshape(first, [-1, classes])}
    total = tf.zeros([tf.shape(slopes[network.output])[0]])
    for step in reversed(network.steps):
        if step.output not in slopes:
            continue
        slope = slopes.pop(step.output)
        if step.kind == "affine":
            affine = maps[step.output]
            if affine.offset is not None:
                total += _sum(slope * affine.offset)
            passed = [_transposed(affine, slope, boxes[step.inputs[0]].lower)]
        elif step.kind == "relu":
            slope, offset = _through_lines(slope, boxes[step.inputs[0]], step.ends, classes)
            total += offset
            passed = [slope]
        elif step.kind == "peak":
            slope, offset = _through_peak(slope, boxes, step, classes)
            total += offset
            passed = [slope]
        elif step.kind == "join":
            passed = _parts(step, slope, boxes)
        else:
            total += _least(slope, boxes[step.output], classes)
            continue
        for name, part in zip(step.inputs, passed, strict=True):
            slopes[name] = slopes[name] + part if name in slopes else part
    if network.input in slopes:
        total += _least(slopes[network.input], boxes[network.input], classes)
    return tf.reshape(total, [-1, classes])


def _transposed(affine: Affine, slope: tf.Tensor, example: tf.Tensor) -> tf.Tensor:
    """The slope in front of a linear map: its transpose, by automatic differentiation."""
    zeros = tf.zeros([tf.shape(slope)[0], *example.shape[1:]])
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(zeros)
        values = affine.linear(zeros, False)
    return tape.gradient(values, zeros, output_gradients=slope)


def _through_lines(
    slope: tf.Tensor, box: Box, ends: tuple[float, float | None], classes: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Goes back through min(most, relu(x) + below · min(x, 0)), whose ends are (below, most)."""
    below, most = ends
    total = tf.zeros([tf.shape(slope)[0]])
    if most is not None:
        # min(most, u) is most - relu(most - u).
        low, high = (
            tf.maximum(end, 0.0) + below * tf.minimum(end, 0.0) for end in (box.lower, box.upper)
        )
        passed, offset = _through_relu(-slope, Box(most - high, most - low), classes)
        total += offset + most * _sum(slope + passed)
        slope = -passed
    # A leaky ReLU is below · x + (1 - below) · relu(x).
    passed, offset = _through_relu((1 - below) * slope, box, classes)
    return passed + below * slope, total + offset


def _through_peak(
    slope: tf.Tensor, boxes: Boxes, step: Step, classes: int
) -> tuple[tf.Tensor, tf.Tensor]:
    lower = _each(boxes[step.inputs[0]].lower, classes)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(lower)
        highest = step.layer.call(lower)
    passed = tape.gradient(highest, lower, output_gradients=tf.maximum(slope, 0.0))
    return passed, _sum(tf.minimum(slope, 0.0) * _each(boxes[step.output].upper, classes))


def _through_relu(slope: tf.Tensor, box: Box, classes: int) -> tuple[tf.Tensor, tf.Tensor]:
    lower, upper = tf.minimum(box.lower, 0.0), tf.maximum(box.upper, 0.0)
    above = upper / tf.maximum(upper - lower, 1e-12)
    below = tf.cast(upper > -lower, tf.float32)
    offset = -lower * above
    falling = tf.minimum(slope, 0.0)
    passed = tf.maximum(slope, 0.0) * _each(below, classes) + falling * _each(above, classes)
    return passed, _sum(falling * _each(offset, classes))


def _parts(step: Step, slope: tf.Tensor, boxes: Boxes) -> list[tf.Tensor]:
    """The slope of each tensor that is added or concatenated."""
    if isinstance(step.layer, keras.layers.Add):
        return [slope for _ in step.inputs]
    axis = step.layer.axis
    return tf.split(slope, [boxes[name].lower.shape[axis] for name in step.inputs], axis)


def _least(slope: tf.Tensor, box: Box, classes: int) -> tf.Tensor:
    """The least that a linear function takes in a box."""
    center, radius = _each(box.center, classes), _each(box.radius, classes)
    return _sum(slope * center - tf.abs(slope) * radius)


def _each(values: tf.Tensor, classes: int) -> tf.Tensor:
    """Repeats each image's values for each class."""
    return tf.repeat(values, classes, axis=0)


def _sum(values: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(values, list(range(1, values.shape.rank)))
