"""The fast adaptive boundary attack, targeted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from robustcls._settings import PositiveInt
from robustcls.attacks import losses, norms
from robustcls.attacks.gradient import Logits, Rule, Tensors, value_and_gradient
from robustcls.attacks.minimum_norm.nearest import MinimumNormAttack
from robustcls.attacks.task import Batch, State

ALPHA_MAX = 0.1
OVERSHOOT = 1.05
BACKWARD = 0.9


@dataclass(frozen=True)
class BoundaryStep:
    """A step to where the linearized model would meet the decision boundary.

    Args:
        norm: in which the step is to be short.
    """

    norm: str

    def __call__(
        self, logits: Logits, batch: Tensors, state: Tensors, settings: Tensors
    ) -> tuple[tf.Tensor, tf.Tensor, Tensors]:
        def lead(points: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            outputs = logits(points)
            return losses.logit_difference(outputs, batch["labels"], batch["targets"]), outputs

        images, point = batch["images"], state["current"]
        value, _, gradient = value_and_gradient(lead, point)
        offset_product = tf.reduce_sum(gradient * (images - point), [1, 2, 3])
        both = towards_hyperplane(
            tf.concat([point, images], 0),
            tf.concat([gradient, gradient], 0),
            tf.concat([-value, -value - offset_product], 0),
            self.norm,
        )
        from_point, from_image = tf.split(both, 2)
        here = tf.maximum(norms.lengths(from_point, self.norm), 1e-8)
        there = tf.maximum(norms.lengths(from_image, self.norm), 1e-8)
        # The farther the point has strayed, the more the step is drawn to the image.
        alpha = tf.minimum(here / (here + there), ALPHA_MAX)
        moved = (1 - alpha) * (point + OVERSHOOT * from_point)
        moved = tf.clip_by_value(moved + alpha * (images + OVERSHOOT * from_image), 0.0, 1.0)

        outputs = logits(moved)
        fooled = losses.fooled(outputs, batch["labels"])[:, None, None, None]
        following = tf.where(fooled, images + BACKWARD * (moved - images), moved)
        return moved, outputs, {"current": following}


@dataclass(frozen=True, kw_only=True)
class FAB(MinimumNormAttack):
    """Looks for the nearest misclassified point rather than the worst one within the ball.

    Each step goes to the boundary between the label and one target class as the gradients have
    it at that point, a little beyond and drawn towards the image; from a misclassified point it
    goes back a tenth of the way to the image. An image has fallen when a misclassified point
    lies in the ball. A step costs one gradient and one evaluation more.

    Source: Croce and Hein, "Minimally distorted adversarial examples with a fast adaptive
    boundary attack", 2020, algorithm 1, aimed at one class at a time as in AutoAttack.

    Args:
        epsilon: radius of the ball; above 1 only for norms "2" and "1" (float in (0, 1], default
            8/255).
        norm: of the ball ("inf", "2" or "1", default "inf").
        steps: of each run (int >= 1, default 100).
        restarts: runs for each target class; the first begins at the image, the others at half of
            epsilon from it (int >= 1, default 1).
        target_classes: how many classes to aim at one after the other, the likeliest first; at most
            all but the label (int >= 1, default 9).
        seed: seed of the random starts (int >= 0, default 0).
    """

    steps: PositiveInt = 100
    restarts: PositiveInt = 1
    target_classes: PositiveInt = 9

    known_norms = ("inf", "2", "1")
    published = ("steps", "restarts")

    @property
    def name(self) -> str:
        return f"{self.registry_name}-t"

    @property
    def rule(self) -> Rule:
        return BoundaryStep(self.norm)

    @property
    def settings(self) -> State:
        return {}

    @property
    def step_count(self) -> int:
        return self.steps

    @property
    def restart_count(self) -> int:
        return self.restarts

    @property
    def passes(self) -> int:
        return 3

    @property
    def moves_last(self) -> bool:
        return False

    @property
    def repeats(self) -> bool:
        return type(self.rule) is BoundaryStep

    def rivals(self, num_classes: int) -> int:
        return min(self.target_classes, num_classes - 1)

    def start(self, batch: Batch) -> State:
        noise = norms.random_on_sphere(
            batch.keys, batch.images.shape[1:], self.epsilon / 2, self.norm
        )
        again = (batch.run % self.restarts > 0)[:, None, None, None]
        return {"current": np.where(again, np.clip(batch.images + noise, 0, 1), batch.images)}


def towards_hyperplane(
    points: tf.Tensor, normals: tf.Tensor, gaps: tf.Tensor, norm: str
) -> tf.Tensor:
    """Returns the shortest offsets that change each point's product with its normal by its gap.

    Minimizes the norm of d subject to <normal, d> = gap and point + d in [0, 1]. The solution
    moves coordinate i by min(t * c_i, room_i) in the direction that helps, where room_i is the
    way to the side of the box, c_i is 1 for norm "inf" and |normal_i| for norm "2", and t is as
    large as needed. The change is a concave function of t made of straight pieces, which end
    where a coordinate meets its side, so Newton's method climbs to t and stops there after a
    few steps. For norm "1" the coordinates of the largest |normal_i| go to their sides one after
    the other.

    Args:
        points: float32 [N, H, W, C] in [0, 1].
        normals: float32 [N, H, W, C].
        gaps: float32 [N].
        norm: "inf", "2" or "1".

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
    if norm == "1":
        return tf.reshape(ways * _largest_first(weights, rooms, tf.abs(gaps)), shape)
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


def _largest_first(weights: tf.Tensor, rooms: tf.Tensor, gaps: tf.Tensor) -> tf.Tensor:
    """How far each coordinate goes when those of the largest weights close the gap alone."""
    order = tf.argsort(weights, direction="DESCENDING", stable=True)
    ordered = tf.gather(weights, order, batch_dims=1)
    most = ordered * tf.gather(rooms, order, batch_dims=1)
    given = tf.clip_by_value(gaps - tf.cumsum(most, 1, exclusive=True), 0.0, most)
    moves = tf.math.divide_no_nan(given, ordered)
    return tf.gather(moves, tf.argsort(order, stable=True), batch_dims=1)
