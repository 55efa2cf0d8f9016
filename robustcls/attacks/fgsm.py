"""The fast gradient sign method."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robustcls.attacks.gradient import GradientAttack, Rule
from robustcls.attacks.pgd import SteepestAscent, start_points
from robustcls.attacks.task import Batch, State


@dataclass(frozen=True, kw_only=True)
class FGSM(GradientAttack):
    """One step of length epsilon along the sign of the gradient, or along it for norm "2".

    Source: Goodfellow et al., "Explaining and Harnessing Adversarial Examples", section 4. With
    `random_start` a step of 1.25 epsilon begins at a random point of the ball and the result is
    projected back to it (Wong et al., "Fast is better than free", section 4).

    Args:
        epsilon: radius of the ball; above 1 only for norm "2" (float in (0, 1], default 8/255).
        norm: of the ball ("inf" or "2", default "inf").
        random_start: begin at a random point of the ball (bool, default False).
        seed: seed of the random start (int >= 0, default 0).
    """

    random_start: bool = False

    @property
    def rule(self) -> Rule:
        return SteepestAscent(self.norm, self.targeted)

    @property
    def settings(self) -> State:
        step_size = 1.25 * self.epsilon if self.random_start else self.epsilon
        return {"epsilon": np.float32(self.epsilon), "step_size": np.float32(step_size)}

    @property
    def step_count(self) -> int:
        return 1

    def start(self, batch: Batch) -> State:
        return {"current": start_points(batch, self.epsilon, self.norm, self.random_start)}
