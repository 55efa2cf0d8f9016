"""AutoAttack: four attacks, one after the other, on the images that still stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from robustcls._settings import PositiveInt
from robustcls.attacks.apgd import APGD
from robustcls.attacks.base import Attack
from robustcls.attacks.fab import FAB
from robustcls.attacks.square import Square
from robustcls.attacks.task import Options, Task
from robustcls.classifiers.classifier import Classifier


@dataclass(frozen=True, kw_only=True)
class AutoAttack(Attack):
    """The published standard order: APGD on cross-entropy, APGD on the targeted difference of
    logits ratio, targeted FAB, Square. Robust accuracy is what is left after the last.

    The defaults are the published settings. A model of three classes gets the untargeted ratio,
    which compares three logits where the targeted one needs four; one of two classes does
    without.

    Source: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of
    diverse parameter-free attacks", 2020, section 5.

    Args:
        epsilon: radius of the ball; above 1 only for norm "2" (float in (0, 1], default 8/255).
        norm: of the ball ("inf" or "2", default "inf").
        steps: of each run of APGD and FAB (int >= 1, default 100).
        target_classes: how many classes targeted attacks aim at; at most all but the label (int >=
            1, default 9).
        queries: of Square (int >= 1, default 5000).
        seed: seed of everything random (int >= 0, default 0).
    """

    steps: PositiveInt = 100
    target_classes: PositiveInt = 9
    queries: PositiveInt = 5000

    published = ("steps",)

    def members(self, num_classes: int) -> list[Attack]:
        """Returns the attacks in order, for a model of `num_classes` classes.

        Args:
            num_classes: which decides what the ratio of logits can compare.
        """
        ball: dict[str, Any] = {"epsilon": self.epsilon, "norm": self.norm, "seed": self.seed}
        aims: dict[str, Any] = {"steps": self.steps, "target_classes": self.target_classes}
        attacks: list[Attack] = [APGD(loss="ce", steps=self.steps, **ball)]
        if num_classes > 3:
            attacks.append(APGD(loss="dlr", **aims, **ball))
        elif num_classes == 3:
            attacks.append(APGD(loss="dlr", steps=self.steps, **ball))
        return [*attacks, FAB(**aims, **ball), Square(queries=self.queries, **ball)]

    def objection(self, classifier: Classifier) -> str | None:
        objections = (
            member.objection(classifier) for member in self.members(classifier.num_classes)
        )
        return next((objection for objection in objections if objection), None)

    def rivals(self, num_classes: int) -> int:
        return max(member.rivals(num_classes) for member in self.members(num_classes))

    def run(self, classifier: Classifier, task: Task, options: Options) -> None:
        for member in self.members(classifier.num_classes):
            member.run(classifier, task, options)
