"""The shortest way from an image to a hyperplane without leaving [0, 1]."""

from __future__ import annotations

import tensorflow as tf


def towards_hyperplane(
    points: tf.Tensor, normals: tf.Tensor, gaps: tf.Tensor, norm: str
) -> tf.Tensor:
    """Returns the shortest offsets that change each point's product with its normal by its gap.

    Minimizes the norm of d subject to <normal, d> = gap and point + d in [0, 1]. The solution
    moves coordinate i by min(t * c_i, room_i) in the direction that helps, where room_i is the
    way to the side of the box, c_i is 1 for norm "inf" and |normal_i| for norm "2", and t is as
    large as needed. The change is a concave function of t made of straight pieces, which end
    where a coordinate meets its side, so Newton's method climbs to t and stops there after a
    few steps.

    Args:
        points: float32 [N, H, W, C] in [0, 1].
        normals: float32 [N, H, W, C].
        gaps: float32 [N].
        norm: "inf" or "2".

    Returns:
        float32 [N, H, W, C]. Where the box is too small, all coordinates go to their sides.
    """
    shape = tf.shape(points)
    flat = tf.stack([shape[0], tf.reduce_prod(shape[1:])])
    points, normals = tf.reshape(points, flat), tf.reshape(normals, flat)
    # One scale for the normal and its gap changes nothing but keeps products within float32.
    scale = tf.reduce_max(tf.abs(normals), 1, keepdims=True)
    normals = tf.math.divide_no_nan(normals, scale)
    gaps = tf.math.divide_no_nan(gaps[:, None], scale)

    ways = tf.sign(gaps) * tf.sign(normals)
    rooms = tf.where(ways > 0, 1 - points, points) * tf.abs(ways)
    weights = tf.abs(normals)
    speeds = tf.ones_like(weights) if norm == "inf" else weights
    ends = tf.where(weights > 0, rooms / tf.maximum(speeds, 1e-30), 0.0)
    gains, everything = weights * speeds, weights * rooms
    longest = tf.reduce_max(ends, 1, keepdims=True)

    def climb(t: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        moves = ends > t
        slope = tf.reduce_sum(tf.where(moves, gains, 0.0), 1, keepdims=True)
        given = tf.reduce_sum(tf.where(moves, 0.0, everything), 1, keepdims=True)
        needed = tf.maximum(tf.abs(gaps) - given, 0.0)
        following = tf.where(slope > 0, tf.minimum(needed / slope, longest), longest)
        following = tf.maximum(following, t)
        return following, tf.reduce_any(following > t)

    t, _ = tf.while_loop(
        lambda _, climbs: climbs,
        climb,
        (tf.zeros_like(gaps), tf.constant(True)),
        maximum_iterations=64,
    )
    return tf.reshape(ways * tf.minimum(t * speeds, rooms), shape)
