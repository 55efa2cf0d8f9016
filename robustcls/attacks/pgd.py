"""Projected gradient descent."""

from __future__ import annotations

from dataclasses import dataclass

from robustcls._validation import check_number
from robustcls.attacks.base import Attack


@dataclass(frozen=True, kw_only=True)
class PGD(Attack):
    """Steps along the gradient, each projected back to the ball and to [0, 1].

    Source: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks",
    section 2.1. An image counts as fallen when any iterate of any restart is misclassified.

    Args:
        epsilon: radius of the ball, in (0, 1] for norm "inf".
        norm: "inf" or "2".
        steps: gradient steps of each restart.
        step_size: length of a step; None is 2.5 * epsilon / steps, which reaches every point of
            the ball.
        restarts: random starts tried on images that still stand.
        random_start: begin at a random point of the ball rather than at the image.
        seed: seed of the random starts.
    """

    steps: int = 20
    step_size: float | None = None
    restarts: int = 1
    random_start: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("steps", self.steps, minimum=1, integer=True)
        check_number("restarts", self.restarts, minimum=1, integer=True)
        if self.step_size is not None:
            check_number("step_size", self.step_size, above=0)

    @property
    def name(self) -> str:
        return f"pgd{self.steps}"

    @property
    def _schedule(self) -> tuple[int, float, int, bool]:
        step_size = self.step_size or 2.5 * self.epsilon / self.steps
        return self.steps, step_size, self.restarts, self.random_start
