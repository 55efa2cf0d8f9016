"""The decoupled direction and norm attack."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from robustcls._settings import PositiveFloat, PositiveInt
from robustcls.attacks import losses, norms
from robustcls.attacks.gradient import Logits, Rule, Tensors, value_and_gradient
from robustcls.attacks.minimum_norm.fmn import half_cosine
from robustcls.attacks.minimum_norm.nearest import MinimumNormAttack
from robustcls.attacks.task import Batch, State

LAST_STEP = 0.01


@dataclass(frozen=True)
class DecoupledStep:
    """A step up the loss, stretched or cut to a length that follows what is found."""

    def __call__(
        self, logits: Logits, batch: Tensors, state: Tensors, settings: Tensors
    ) -> tuple[tf.Tensor, tf.Tensor, Tensors]:
        def loss(points: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            outputs = logits(points)
            return losses.cross_entropy(outputs, batch["labels"]), outputs

        images, point = batch["images"], state["current"]
        _, outputs, gradient = value_and_gradient(loss, point)
        fooled = losses.fooled(outputs, batch["labels"])
        change = settings["change"]
        radius = state["radius"] * tf.where(fooled, 1 - change, 1 + change)
        farthest = norms.lengths(tf.maximum(images, 1 - images), "2")
        radius = tf.minimum(radius, farthest[:, 0, 0, 0])

        step_size = tf.gather(settings["step_sizes"], batch["step"])[:, None, None, None]
        moved = point - images + step_size * norms.steepest_ascent(gradient, "2")
        scale = tf.math.divide_no_nan(radius[:, None, None, None], norms.lengths(moved, "2"))
        moved = tf.clip_by_value(images + scale * moved, 0.0, 1.0)
        return point, outputs, {"current": moved, "radius": radius}


@dataclass(frozen=True, kw_only=True)
class DDN(MinimumNormAttack):
    """Steps up the loss on a sphere that shrinks while the model is wrong, and else grows.

    It begins at the image with a radius of `first_radius`. Steps get smaller as half a cosine.
    Images are not rounded to 8 bits, as the authors' code does on request.

    Source: Rony et al., "Decoupling Direction and Norm for Efficient Gradient-Based L2 Adversarial
    Attacks and Defenses", 2019, algorithm 1.

    Args:
        epsilon: radius of the ball (float > 0, default 8/255).
        norm: of the ball, "2" alone (default "2").
        steps: of a run (int >= 1, default 100).
        first_radius: of the sphere (float > 0, default 1.0).
        change: of the radius in a step, as a share of it (float > 0, default 0.05).
        seed: unused, since nothing here is random (int >= 0, default 0).
    """

    epsilon: PositiveFloat = 8 / 255
    norm: str = "2"
    steps: PositiveInt = 100
    first_radius: PositiveFloat = 1.0
    change: PositiveFloat = 0.05

    known_norms = ("2",)
    published = ("steps",)

    @property
    def rule(self) -> Rule:
        return DecoupledStep()

    @property
    def settings(self) -> State:
        sizes = LAST_STEP + (1 - LAST_STEP) * half_cosine(self.steps)
        return {"step_sizes": sizes.astype(np.float32), "change": np.float32(self.change)}

    @property
    def step_count(self) -> int:
        return self.steps

    def start(self, batch: Batch) -> State:
        radius = np.full(len(batch.images), self.first_radius, np.float32)
        return {"current": batch.images, "radius": radius}
