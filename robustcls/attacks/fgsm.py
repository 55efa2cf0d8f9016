"""The fast gradient sign method."""

from __future__ import annotations

from dataclasses import dataclass

from robustcls.attacks.base import Attack


@dataclass(frozen=True, kw_only=True)
class FGSM(Attack):
    """One step of length epsilon along the sign of the gradient, or along it for norm "2".

    Source: Goodfellow et al., "Explaining and Harnessing Adversarial Examples", section 4. With
    `random_start` a step of 1.25 epsilon begins at a random point of the ball and the result is
    projected back to it (Wong et al., "Fast is better than free", section 4).

    Args:
        epsilon: radius of the ball, in (0, 1] for norm "inf".
        norm: "inf" or "2".
        random_start: begin at a random point of the ball.
        seed: seed of the random start.
    """

    random_start: bool = False

    @property
    def _schedule(self) -> tuple[int, float, int, bool]:
        step_size = 1.25 * self.epsilon if self.random_start else self.epsilon
        return 1, step_size, 1, self.random_start
