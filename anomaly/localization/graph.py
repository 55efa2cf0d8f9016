"""The boxes of `localization` as TensorFlow operations, for the served graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from anomaly.localization.boxes import SMOOTHING, Box

#: Boxes of an image that are answered, the most anomalous ones.
MOST_BOXES = 16


def smooth_maps(maps: tf.Tensor) -> tf.Tensor:
    """Returns what `smooth` does, to the rounding; float32 [N, H, W]."""
    height, width = maps.shape[1:]
    sigma = SMOOTHING * max(height, width)
    radius = int(4 * sigma + 0.5)  # where SciPy cuts the bell off
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    for axis, size in ((1, height), (2, width)):
        wide = tf.cast(maps, tf.float64)
        total = tf.zeros_like(wide)
        for shift, weight in zip(range(-radius, radius + 1), weights, strict=True):
            places = np.clip(np.arange(size) + shift, 0, size - 1)
            total += weight * tf.gather(wide, places, axis=axis)
        maps = tf.cast(total, tf.float32)
    return maps


def boxes_of(smoothed: tf.Tensor, thresholds: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns what `find_boxes` finds, as tensors.

    Args:
        smoothed: float32 [N, H, W].
        thresholds: float32 [N] or [1]; pixels above are anomalous.

    Returns:
        `boxes`: int64 [N, MOST_BOXES, 4], (left, top, right, bottom), the highest score first and
        zeros after the last; `box_scores`: float32 [N, MOST_BOXES].
    """
    height, width = smoothed.shape[1:]
    count = height * width
    above = smoothed > thresholds[:, None, None]
    groups = _groups(above)
    peaks = _highest(smoothed, groups)
    # A group is cut at half of its peak.
    parts = _groups(above & (smoothed > tf.gather(peaks, groups, batch_dims=1) / 2))
    scores = _highest(smoothed, parts)[:, 1:]
    rows = tf.broadcast_to(tf.range(height)[:, None], [height, width])
    columns = tf.broadcast_to(tf.range(width)[None, :], [height, width])
    # The lowest number first where scores are equal, as in a stable sort.
    best = tf.math.top_k(scores, min(MOST_BOXES, count))
    real = best.values > 0
    edges = []
    for places, sign in ((columns, -1), (rows, -1), (columns, 1), (rows, 1)):
        values = tf.cast(sign * places, tf.float32)[None] + tf.zeros_like(smoothed)
        extreme = _highest(values, parts, -np.inf)[:, 1:]
        chosen = tf.gather(extreme, best.indices, batch_dims=1)
        edges.append(tf.where(real, sign * chosen + (sign > 0), 0))
    boxes = tf.cast(tf.stack(edges, -1), tf.int64)
    missing = MOST_BOXES - min(MOST_BOXES, count)
    return {
        "boxes": tf.pad(boxes, [[0, 0], [0, missing], [0, 0]]),
        "box_scores": tf.pad(best.values, [[0, 0], [0, missing]]),
    }


def as_arrays(boxes: Sequence[Sequence[Box]]) -> dict[str, np.ndarray]:
    """Returns boxes in the form of `boxes_of`."""
    places = np.zeros((len(boxes), MOST_BOXES, 4), np.int64)
    scores = np.zeros((len(boxes), MOST_BOXES), np.float32)
    for number, found in enumerate(boxes):
        for place, box in enumerate(found[:MOST_BOXES]):
            places[number, place] = (box.left, box.top, box.right, box.bottom)
            scores[number, place] = box.score
    return {"boxes": places, "box_scores": scores}


def _groups(marked: tf.Tensor) -> tf.Tensor:
    """Numbers connected pixels, also over corners: int32 [N, H, W], 0 where not marked.

    Each pixel takes the highest number around it until nothing changes.
    """
    height, width = marked.shape[1:]
    # Downwards, so that the first pixel of a group in reading order numbers it.
    numbers = tf.reshape(tf.range(height * width, 0, -1), [1, height, width])
    inside = tf.cast(marked, tf.float32)
    start = inside * tf.cast(numbers, tf.float32)

    def spread(now: tf.Tensor, before: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        around = tf.nn.max_pool2d(now[..., None], 3, 1, "SAME")[..., 0]
        return around * inside, now

    grown, _ = tf.while_loop(
        lambda now, before: tf.reduce_any(now != before), spread, (start, tf.zeros_like(start))
    )
    first = tf.cast(height * width + 1, tf.float32)
    return tf.cast(tf.where(marked, first - grown, 0), tf.int32)


def _highest(values: tf.Tensor, groups: tf.Tensor, empty: float = 0.0) -> tf.Tensor:
    """Returns the highest value in each group of each map, [N, H * W + 1]; `empty` where none."""
    count = values.shape[1] * values.shape[2] + 1
    images = tf.shape(values)[0]
    offset = count * tf.range(images)[:, None]
    found = tf.math.unsorted_segment_max(
        tf.reshape(values, [-1]),
        tf.reshape(tf.reshape(groups, [images, -1]) + offset, [-1]),
        count * images,
    )
    found = tf.where(found == values.dtype.min, empty, found)
    return tf.reshape(found, [images, count])
