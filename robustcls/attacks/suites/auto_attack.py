"""AutoAttack: four attacks, one after the other, on the images that still stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from robustcls._settings import Choice, PositiveInt, Range
from robustcls.attacks.auto_pgd.apgd import APGD
from robustcls.attacks.base import Attack
from robustcls.attacks.minimum_norm.fab import FAB
from robustcls.attacks.square import Square
from robustcls.attacks.task import Options, Task
from robustcls.classifiers.classifier import Classifier

SPARSE_RESTARTS, SPARSE_TARGETS = 5, 5


@dataclass(frozen=True, kw_only=True)
class AutoAttack(Attack):
    """The published standard order: APGD on cross-entropy, APGD on the targeted difference of
    logits ratio, targeted FAB, Square. Robust accuracy is what is left after the last.

    The defaults are the published settings, Square's unrescaled schedule among them. A model of
    three classes gets the untargeted ratio, which compares three logits where the targeted one
    needs four; one of two classes does without. In the L1 ball APGD on cross-entropy begins five
    times, and targeted APGD aims at five classes at most.

    Version "rand" is for models that answer at random. It is APGD on cross-entropy and APGD on the
    untargeted ratio, each step along the mean gradient of `samples` answers (expectation over
    transformation). What falls is asked again, and stands where the mean of new answers is right.
    Such a model draws from its own generator, so two runs differ.

    Source: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of
    diverse parameter-free attacks", 2020, section 5; "Mind the box: l1-APGD for sparse adversarial
    attacks on image classifiers", 2021, section 5 (the L1 ball); Athalye et al., "Synthesizing
    Robust Adversarial Examples", 2018, section 2.

    Args:
        epsilon: radius of the ball; above 1 only for norms "2" and "1" (float in (0, 1], default
            8/255).
        norm: of the ball ("inf", "2" or "1", default "inf").
        steps: of each run of APGD and FAB (int >= 1, default 100).
        target_classes: how many classes targeted attacks aim at; at most all but the label (int >=
            1, default 9).
        queries: of Square (int >= 1, default 5000).
        version: "standard", or "rand" for models that answer at random ("standard" or "rand",
            default "standard").
        samples: answers that a step of version "rand" averages (int >= 2, default 20).
        seed: seed of everything random (int >= 0, default 0).
    """

    steps: PositiveInt = 100
    target_classes: PositiveInt = 9
    queries: PositiveInt = 5000
    version: Annotated[str, Choice(("standard", "rand"))] = "standard"
    samples: Annotated[int, Range(minimum=2)] = 20

    known_norms = ("inf", "2", "1")
    published = ("steps",)

    def members(self, num_classes: int) -> list[Attack]:
        """Returns the attacks in order, for a model of `num_classes` classes.

        Args:
            num_classes: which decides what the ratio of logits can compare.
        """
        ball: dict[str, Any] = {"epsilon": self.epsilon, "norm": self.norm, "seed": self.seed}
        aims: dict[str, Any] = {"steps": self.steps, "target_classes": self.target_classes}
        # As published: in the L1 ball more starts and fewer targets.
        sparse = self.norm == "1"
        starts = SPARSE_RESTARTS if sparse else 1
        targets = min(SPARSE_TARGETS, self.target_classes) if sparse else self.target_classes
        if self.version == "rand":
            kinds = ("ce", "dlr") if num_classes > 2 else ("ce",)
            own: dict[str, Any] = {"steps": self.steps, "samples": self.samples}
            return [APGD(loss=loss, **own, **ball) for loss in kinds]
        attacks: list[Attack] = [APGD(loss="ce", steps=self.steps, restarts=starts, **ball)]
        if num_classes > 3:
            attacks.append(APGD(loss="dlr", **aims | {"target_classes": targets}, **ball))
        elif num_classes == 3:
            attacks.append(APGD(loss="dlr", steps=self.steps, **ball))
        square = Square(queries=self.queries, rescale=False, **ball)
        return [*attacks, FAB(**aims, **ball), square]

    @property
    def answers(self) -> int:
        return self.samples if self.version == "rand" else 1

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
