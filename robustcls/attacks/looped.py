"""Attacks that say how a run begins and what a step does."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from robustcls.attacks.base import Attack
from robustcls.attacks.classifier import Classifier
from robustcls.attacks.loop import Loop
from robustcls.attacks.task import Batch, Options, State, Task

Step = Callable[[Batch, State], tuple[np.ndarray, np.ndarray, State]]


@dataclass(frozen=True, kw_only=True)
class LoopedAttack(Attack):
    """An attack that says how a run begins and what a step does, and leaves the rest to `Loop`.

    An image gets a number of runs (restarts, classes aimed at) of a number of steps, until it
    falls.
    """

    @property
    @abc.abstractmethod
    def _step_count(self) -> int:
        """Steps of a run."""

    @property
    def _restart_count(self) -> int:
        """Runs for each class aimed at."""
        return 1

    @property
    def _moves_last(self) -> bool:
        """Whether a step ends by moving to a point that the model has yet to see."""
        return True

    @property
    def _stays_inside(self) -> bool:
        """Whether all points lie in the ball."""
        return True

    @abc.abstractmethod
    def _start(self, batch: Batch) -> State:
        """Returns the state a run begins with: values [n, ...], NumPy.

        Its entry `current`, float32 [n, H, W, C], is the next point to show to the model.
        """

    @abc.abstractmethod
    def _bind(self, classifier: Classifier) -> Step:
        """Returns the step: (batch, state) to (points, logits, next state).

        `logits`, float32 [n, classes], are the model's of `points`, float32 [n, H, W, C].
        """

    def _run(self, classifier: Classifier, task: Task, options: Options) -> None:
        Loop(self, classifier, task, options).run()
