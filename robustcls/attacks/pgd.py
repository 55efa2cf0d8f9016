"""Projected gradient descent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from robustcls._settings import PositiveFloat, PositiveInt
from robustcls.attacks import losses, norms
from robustcls.attacks.gradient import GradientAttack, Logits, Rule, Tensors, value_and_gradient
from robustcls.attacks.task import Batch, State


@dataclass(frozen=True)
class SteepestAscent:
    """A step along the gradient of cross-entropy, back into the ball and into [0, 1].

    Args:
        norm: of the ball.
        targeted: go towards the label rather than away from it.
        samples: answers of a random model to average (default 1).
    """

    norm: str
    targeted: bool
    samples: int = 1

    def __call__(
        self, logits: Logits, batch: Tensors, state: Tensors, settings: Tensors
    ) -> tuple[tf.Tensor, tf.Tensor, Tensors]:
        def loss(points: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            outputs = logits(points)
            value = losses.cross_entropy(outputs, batch["labels"])
            return -value if self.targeted else value, outputs

        current = state["current"]
        _, outputs, gradient = value_and_gradient(loss, current, self.samples)
        moved = current + settings["step_size"] * norms.steepest_ascent(gradient, self.norm)
        moved = norms.project(moved, batch["images"], settings["epsilon"], self.norm)
        return current, outputs, {"current": moved}


@dataclass(frozen=True, kw_only=True)
class PGD(GradientAttack):
    """Steps along the gradient, each projected back to the ball and to [0, 1].

    Source: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks",
    section 2.1. An image counts as fallen when any iterate of any restart is misclassified.
    The loss is cross-entropy, in a form whose gradient does not vanish when the model is sure.

    For one image x with label y, and for every restart as long as it stands:

        point = clip(x + uniform draw from the ball, 0, 1)
        for step in range(steps):
            if argmax f(point) != y: the image has fallen
            gradient = the loss's, at point
            point = point + step_size * sign(gradient)     # norm "2": gradient / its length
            point = clip(projection of point to the ball around x, 0, 1)
        the last point is checked too

    `Loop` does that for a batch, whose places are filled again as images fall, or come back to a
    point where they have been: steps along signs run into cycles, where nothing new can be found.

    Args:
        epsilon: radius of the ball; above 1 only for norm "2" (float in (0, 1], default 8/255).
        norm: of the ball ("inf" or "2", default "inf").
        steps: gradient steps of each restart (int >= 1, default 20).
        step_size: length of a step; None is 2.5 * epsilon / steps, which reaches every point of the
            ball (float > 0 or None, default None).
        restarts: random starts tried on images that still stand (int >= 1, default 1).
        random_start: begin at a random point of the ball rather than at the image (bool, default
            True).
        targeted: the labels given are classes to reach; an image has fallen when the model takes it
            for that class (bool, default False).
        samples: more than 1 for a model that answers at random: gradient, loss and logits are means
            over so many answers (expectation over transformation); such a model draws from its own
            generator, so two runs differ (int >= 1, default 1).
        seed: seed of the random starts (int >= 0, default 0).
    """

    steps: PositiveInt = 20
    step_size: PositiveFloat | None = None
    restarts: PositiveInt = 1
    random_start: bool = True
    targeted: bool = False
    samples: PositiveInt = 1

    @property
    def answers(self) -> int:
        return self.samples

    @property
    def name(self) -> str:
        return f"{self.registry_name}{self.steps}"

    @property
    def rule(self) -> Rule:
        return SteepestAscent(self.norm, self.targeted, self.samples)

    @property
    def settings(self) -> State:
        step_size = self.step_size or 2.5 * self.epsilon / self.steps
        return {"epsilon": np.float32(self.epsilon), "step_size": np.float32(step_size)}

    @property
    def step_count(self) -> int:
        return self.steps

    @property
    def restart_count(self) -> int:
        return self.restarts

    @property
    def repeats(self) -> bool:
        # A subclass may have a rule that counts steps.
        return self.samples == 1 and type(self.rule) is SteepestAscent

    def start(self, batch: Batch) -> State:
        return {"current": start_points(batch, self.epsilon, self.norm, self.random_start)}


def start_points(batch: Batch, epsilon: float, norm: str, random_start: bool) -> np.ndarray:
    """Returns the images, or for `random_start` points drawn from the balls around them."""
    if not random_start:
        return batch.images
    noise = norms.random_in_ball(batch.keys, batch.images.shape[1:], epsilon, norm)
    return np.clip(batch.images + noise, 0, 1)
