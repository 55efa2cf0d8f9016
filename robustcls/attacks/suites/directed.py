"""A run of the fast suite: first where a direction of the logits leads, then up the margin."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from robustcls._settings import NonNegativeInt, PositiveFloat, PositiveInt
from robustcls.attacks import draws, losses, norms
from robustcls.attacks.gradient import GradientAttack, Logits, Rule, Tensors, value_and_gradient
from robustcls.attacks.pgd import start_points
from robustcls.attacks.task import Batch, State

# Of the weights of the logits that a run sets out along: the others are drawn from [-1, 1].
RIVAL_WEIGHT = 0.8
LABEL_WEIGHTS = (-0.5, 0.1)


@dataclass(frozen=True)
class DirectedStep:
    """A step along a weighted sum of the logits, or, later, along the margin.

    Args:
        norm: of the ball.
        aimed: the margin is that of one class, else that of the likeliest.
    """

    norm: str
    aimed: bool

    def __call__(
        self, logits: Logits, batch: Tensors, state: Tensors, settings: Tensors
    ) -> tuple[tf.Tensor, tf.Tensor, Tensors]:
        labels, weights = batch["labels"], state["weights"]
        begins = tf.cast(batch["step"], tf.float32) < settings["start_steps"]

        def loss(points: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            outputs = logits(points)
            if self.aimed:
                lead = losses.logit_difference(outputs, labels, batch["targets"])
            else:
                lead = losses.margin(outputs, labels)
            return tf.where(begins, losses.weighted(outputs, labels, weights), lead), outputs

        current = state["current"]
        _, outputs, gradient = value_and_gradient(loss, current)
        size = tf.gather(settings["sizes"], batch["step"])[:, None, None, None]
        moved = current + size * norms.steepest_ascent(gradient, self.norm)
        moved = norms.project(moved, batch["images"], settings["epsilon"], self.norm)
        return current, outputs, {"current": moved, "weights": weights}


@dataclass(frozen=True, kw_only=True)
class Directed(GradientAttack, abstract=True):
    """Full steps along a direction of the logits, then steps up the margin that get shorter.

    The direction is drawn anew for each run and image, but for the label's logit, which is to
    fall, and that of the class aimed at, which is to rise. The steps up the margin shrink from
    epsilon to `last_size` epsilon as half a cosine.

    Source: Liu et al., "Practical Evaluation of Adversarial Robustness via Adaptive Auto Attack",
    2022, section 3.1 (adaptive direction initialization) and algorithm 1.

    Args:
        epsilon: radius of the ball; above 1 only for norm "2" (float in (0, 1], default 8/255).
        norm: of the ball ("inf" or "2", default "inf").
        steps: up the margin (int >= 1, default 10).
        start_steps: along the direction (int >= 0, default 7).
        last_size: of the last step, in shares of epsilon (float > 0, default 0.1).
        width: classes, 1 more for multi-hot labels (int >= 1, default 10).
        aimed: climb the margin of one class rather than of the likeliest (bool, default True).
        round: how many runs there were before (int >= 0, default 0).
        seed: seed of the start and the direction (int >= 0, default 0).
    """

    steps: PositiveInt = 10
    start_steps: NonNegativeInt = 7
    last_size: PositiveFloat = 0.1
    width: PositiveInt = 10
    aimed: bool = True
    round: NonNegativeInt = 0

    @property
    def name(self) -> str:
        return f"fast, round {self.round + 1}"

    @property
    def rule(self) -> Rule:
        return DirectedStep(self.norm, self.aimed)

    @property
    def settings(self) -> State:
        along = np.arange(self.steps) / (self.steps + 1)
        shares = self.last_size + (1 - self.last_size) * (1 + np.cos(np.pi * along)) / 2
        sizes = self.epsilon * np.concatenate([np.ones(self.start_steps), shares])
        return {
            "epsilon": np.float32(self.epsilon),
            "sizes": sizes.astype(np.float32),
            "start_steps": np.float32(self.start_steps),
        }

    @property
    def step_count(self) -> int:
        return self.start_steps + self.steps

    def rivals(self, num_classes: int) -> int:
        return int(self.aimed)

    def start(self, batch: Batch) -> State:
        keys = draws.derive(batch.keys, self.round)
        weights = 2 * draws.uniform(draws.derive(keys, 1), (self.width,)) - 1
        rows, own = np.arange(len(keys)), batch.labels
        if own.ndim == 2:
            own = np.zeros(len(keys), np.int64)
        low, high = LABEL_WEIGHTS
        scale = max(1.0, self.width / 10)
        weights[rows, own] = scale * (low + (high - low) * draws.uniform(draws.derive(keys, 2), ()))
        if self.aimed:
            weights[rows, batch.targets] = scale * RIVAL_WEIGHT
        batch = dataclasses.replace(batch, keys=keys)
        current = start_points(batch, self.epsilon, self.norm, random_start=True)
        return {"current": current, "weights": weights.astype(np.float32)}
