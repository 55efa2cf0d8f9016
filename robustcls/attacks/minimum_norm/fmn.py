"""The fast minimum-norm attack."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from robustcls._settings import PositiveFloat, PositiveInt
from robustcls.attacks import losses, norms, sparse
from robustcls.attacks.gradient import Logits, Rule, Tensors, value_and_gradient
from robustcls.attacks.minimum_norm.nearest import MinimumNormAttack
from robustcls.attacks.task import Batch, State

DUALS = {"inf": "1", "2": "2", "1": "inf"}
LAST_STEP = 0.01
LAST_CHANGE = 0.001


@dataclass(frozen=True)
class ShrinkingStep:
    """A step up the margin, and into a ball that shrinks or grows with what is found.

    Args:
        norm: of the ball.
    """

    norm: str

    def __call__(
        self, logits: Logits, batch: Tensors, state: Tensors, settings: Tensors
    ) -> tuple[tf.Tensor, tf.Tensor, Tensors]:
        def lead(points: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            outputs = logits(points)
            return losses.margin(outputs, batch["labels"]), outputs

        images, point = batch["images"], state["current"]
        value, outputs, gradient = value_and_gradient(lead, point)
        fooled = losses.fooled(outputs, batch["labels"])
        offset = point - images
        length = _of_each(offset, self.norm)
        nearest = tf.where(fooled, tf.minimum(state["nearest"], length), state["nearest"])
        found = state["found"] | fooled
        change = tf.gather(settings["changes"], batch["step"])
        radius = self._radius(state["radius"], fooled, found, nearest, change)
        if self.norm != "0":
            slope = tf.maximum(_of_each(gradient, DUALS[self.norm]), 1e-12)
            # Until something is found, as far as the boundary would be if the model were linear,
            # and farther than before: it comes no nearer where the cube cuts each step short.
            ahead = tf.maximum(length + tf.abs(value) / slope, radius)
            radius = tf.where(found, radius, ahead)
        farthest = _of_each(tf.maximum(images, 1 - images), self.norm)
        radius = tf.minimum(radius, farthest)

        step_size = tf.gather(settings["step_sizes"], batch["step"])[:, None, None, None]
        moved = offset + step_size * norms.steepest_ascent(gradient, "2")
        moved = tf.clip_by_value(images + self._into_ball(moved, radius), 0.0, 1.0)
        following = {"current": moved, "radius": radius, "nearest": nearest, "found": found}
        return point, outputs, following

    def _radius(
        self,
        radius: tf.Tensor,
        fooled: tf.Tensor,
        found: tf.Tensor,
        nearest: tf.Tensor,
        change: tf.Tensor,
    ) -> tf.Tensor:
        if self.norm != "0":
            less = tf.minimum(radius * (1 - change), nearest)
            return tf.where(fooled, less, radius * (1 + change))
        less = tf.minimum(tf.minimum(radius - 1, tf.floor(radius * (1 - change))), nearest)
        more = tf.maximum(radius + 1, tf.floor(radius * (1 + change)))
        return tf.maximum(tf.where(fooled, less, more), 0.0)

    def _into_ball(self, offsets: tf.Tensor, radius: tf.Tensor) -> tf.Tensor:
        radius = radius[:, None, None, None]
        if self.norm == "inf":
            return tf.clip_by_value(offsets, -radius, radius)
        if self.norm == "1":
            return sparse.into_ball(offsets, radius)
        if self.norm == "0":
            return sparse.keep_largest(offsets, radius)
        long = tf.maximum(norms.lengths(offsets, "2"), 1e-12)
        return offsets * tf.minimum(radius / long, 1.0)


@dataclass(frozen=True, kw_only=True)
class FMN(MinimumNormAttack):
    """Steps up the margin within a ball that shrinks while the model is wrong, and else grows.

    It begins at the image; until a misclassified point is found the ball reaches as far as the
    boundary seems to be, and (unlike the authors') grows from step to step. Steps and changes of
    the radius get smaller as half a cosine. Called with a ball it stops at images that fall within
    it; `nearest` finds every radius in one run.

    Source: Pintor et al., "Fast Minimum-norm Adversarial Attacks through Adaptive Norm
    Constraints", 2021, algorithm 1.

    Args:
        epsilon: radius of the ball; above 1 only for norms other than "inf" (float in (0, 1],
            default 8/255).
        norm: of the ball; "0" counts changed values ("inf", "2", "1" or "0", default "inf").
        steps: of a run (int >= 1, default 100).
        step_size: of the first step, in the L2 norm; the last is a hundredth of it (float > 0,
            default 1.0).
        change: of the radius at first, as a share of it; at last it is .001 (float > 0, default
            0.05).
        seed: unused, since nothing here is random (int >= 0, default 0).
    """

    steps: PositiveInt = 100
    step_size: PositiveFloat = 1.0
    change: PositiveFloat = 0.05

    known_norms = norms.ALL_NORMS
    published = ("steps",)

    @property
    def rule(self) -> Rule:
        return ShrinkingStep(self.norm)

    @property
    def settings(self) -> State:
        cosine = half_cosine(self.steps)
        last = LAST_STEP * self.step_size
        return {
            "step_sizes": (last + (self.step_size - last) * cosine).astype(np.float32),
            "changes": (LAST_CHANGE + (self.change - LAST_CHANGE) * cosine).astype(np.float32),
        }

    @property
    def step_count(self) -> int:
        return self.steps

    def start(self, batch: Batch) -> State:
        count = len(batch.images)
        first = 1.0 if self.norm == "0" else 0.0
        return {
            "current": batch.images,
            "radius": np.full(count, first, np.float32),
            "nearest": np.full(count, np.inf, np.float32),
            "found": np.zeros(count, bool),
        }


def half_cosine(steps: int) -> np.ndarray:
    """Returns weights that fall from 1 towards 0, float64 [steps].

    Args:
        steps: how many.
    """
    return (1 + np.cos(np.pi * np.arange(steps) / steps)) / 2


def _of_each(vectors: tf.Tensor, norm: str) -> tf.Tensor:
    return norms.lengths(vectors, norm)[:, 0, 0, 0]
