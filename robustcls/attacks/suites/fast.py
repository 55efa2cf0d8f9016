"""A verdict near AutoAttack's for a tenth of its passes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from robustcls.attacks.base import Attack
from robustcls.attacks.minimum_norm.fab import FAB
from robustcls.attacks.square import Square
from robustcls.attacks.suites.directed import Directed
from robustcls.attacks.suites.search import Search
from robustcls.attacks.task import Options, Task
from robustcls.classifiers.classifier import Classifier

SHORT, LONG = 13, 30
SHORT_ROUNDS, LONG_ROUNDS = 3, 5
TARGETS = 4
FAB_TARGETS, FAB_STEPS, QUERIES = 3, 30, 1000


@dataclass(frozen=True, kw_only=True)
class Fast(Attack):
    """Runs in many directions on few images: nearly what AutoAttack leaves, for a tenth as much.

    In the order of an image:

    1. ten steps up the margin from a random point of the ball;
    2. short runs, each first along a random direction of the logits and then up the margin of one
       class, those classes first that the runs before brought nearest;
    3. after each run the statistics of the image say whether it is left: it stands when its margin
       is still farther from 0 than four tenths of all that the runs have moved it, and farther than
       the runs differ. It is doubtful, too, when they have moved it by less than a twentieth, or
       when it has no gradient;
    4. longer runs, targeted FAB, and Square with a few queries on what stays doubtful.

    The statistics are those of the image alone, where the source's are of the whole set: so
    neither the batch nor the other images matter.

    Source: Liu et al., "Practical Evaluation of Adversarial Robustness via Adaptive Auto Attack",
    2022, sections 3.1 (directions) and 3.2 (discarding).

    Args:
        epsilon: radius of the ball; above 1 only for norm "2" (float in (0, 1], default 8/255).
        norm: of the ball ("inf" or "2", default "inf").
        seed: seed of everything random (int >= 0, default 0).
    """

    def rivals(self, num_classes: int) -> int:
        return num_classes - 1

    def objection(self, classifier: Classifier) -> str | None:
        return next(self._runs(2)).objection(classifier)

    def run(self, classifier: Classifier, task: Task, options: Options) -> None:
        width = classifier.num_classes + (task.labels.ndim == 2)
        search = Search(classifier, task, options)
        for number, member in enumerate(self._runs(width)):
            if number == 1:
                search.rank_rivals()
            search.attempt(member, (number - 1) % TARGETS)
            if number >= 2:
                search.discard()
        ball: dict[str, Any] = {"epsilon": self.epsilon, "norm": self.norm, "seed": self.seed}
        search.attempt(FAB(steps=FAB_STEPS, target_classes=FAB_TARGETS, **ball))
        search.attempt(Square(queries=QUERIES, **ball))

    def _runs(self, width: int) -> Iterator[Directed]:
        """The runs along gradients, in order.

        Args:
            width: how many logits there are to go along.
        """
        first = Directed(
            epsilon=self.epsilon,
            norm=self.norm,
            seed=self.seed,
            width=width,
            start_steps=0,
            aimed=False,
        )
        yield first
        for number in range(SHORT_ROUNDS + LONG_ROUNDS):
            short = number < SHORT_ROUNDS
            yield dataclasses.replace(
                first,
                start_steps=7,
                steps=SHORT if short else LONG,
                last_size=0.1 if short else 0.01,
                aimed=True,
                round=number + 1,
            )
