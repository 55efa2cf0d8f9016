"""Auto-PGD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import tensorflow as tf

from robustcls._settings import Choice, NonNegativeInt, PositiveInt
from robustcls._validation import InputError
from robustcls.attacks import losses, norms
from robustcls.attacks.auto_pgd.sparse_step import SparseStep, sparse_settings, sparse_start, where
from robustcls.attacks.gradient import GradientAttack, Logits, Rule, Tensors, value_and_gradient
from robustcls.attacks.task import Batch, State
from robustcls.classifiers.classifier import Classifier

MOMENTUM = 0.75
RHO = 0.75


@dataclass(frozen=True)
class AutoStep:
    """A step with momentum, and with a length that is halved when it stops paying.

    Args:
        norm: of the ball.
        loss: "ce" or "dlr".
        aimed: raise the loss of one target at a time.
        samples: answers of a random model to average (default 1).
    """

    norm: str
    loss: str
    aimed: bool
    samples: int = 1

    def __call__(
        self, logits: Logits, batch: Tensors, state: Tensors, settings: Tensors
    ) -> tuple[tf.Tensor, tf.Tensor, Tensors]:
        def loss(points: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            outputs = logits(points)
            return losses.raised(outputs, batch, self.loss, self.aimed), outputs

        point = state["current"]
        value, outputs, gradient = value_and_gradient(loss, point, self.samples)
        first = batch["step"] == 0

        better = value > state["best_loss"]
        best = {
            "best": where(better, point, state["best"]),
            "best_gradient": where(better, gradient, state["best_gradient"]),
            "best_loss": tf.where(better, value, state["best_loss"]),
        }
        rises = state["rises"] + tf.cast(value > state["last_loss"], tf.float32)
        rises = tf.where(first, 0.0, rises)
        # What the authors' code does, too: the first checkpoint never finds "no progress".
        checked_loss = tf.where(first, value, state["checked_loss"])

        period = tf.gather(settings["periods"], batch["step"])
        no_progress = (checked_loss >= best["best_loss"]) & ~state["halved"]
        halve = (period > 0) & ((rises <= RHO * period) | no_progress)
        at_check = period > 0
        step_size = tf.where(halve, state["step_size"] / 2, state["step_size"])
        point_now = where(halve, best["best"], point)
        gradient = where(halve, best["best_gradient"], gradient)

        def project(points: tf.Tensor) -> tf.Tensor:
            return norms.project(points, batch["images"], settings["epsilon"], self.norm)

        stride = step_size[:, None, None, None] * norms.steepest_ascent(gradient, self.norm)
        plain = project(point_now + stride)
        momentum = point_now + MOMENTUM * (plain - point_now)
        momentum = project(momentum + (1 - MOMENTUM) * (point_now - state["previous"]))
        return (
            point,
            outputs,
            best
            | {
                "current": where(first, plain, momentum),
                "previous": point_now,
                "last_loss": value,
                "checked_loss": tf.where(at_check, best["best_loss"], checked_loss),
                "halved": tf.where(at_check, halve, state["halved"]),
                "rises": tf.where(at_check, 0.0, rises),
                "step_size": step_size,
            },
        )


@dataclass(frozen=True, kw_only=True)
class APGD(GradientAttack):
    """Projected gradient descent with momentum that sets its own step size for each image.

    Begins with steps of 2 epsilon. At checkpoints the step is halved, and the search goes on
    from the best point so far, for images whose loss rose in at most three quarters of the
    steps since the last checkpoint, or did not pass its best though the step was not halved
    last time. In the L1 ball a step changes few values, and the search begins in balls of three and
    two times the radius.

    Source: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of
    diverse parameter-free attacks", 2020, algorithm 1; "Mind the box: l1-APGD for sparse
    adversarial attacks on image classifiers", 2021, algorithm 1 and section 4 (the L1 ball).

    Args:
        epsilon: radius of the ball; above 1 only for norms "2" and "1" (float in (0, 1], default
            8/255).
        norm: of the ball ("inf", "2" or "1", default "inf").
        loss: "ce", cross-entropy, or "dlr", the difference of logits ratio, which needs three
            classes, or four with `target_classes` ("ce" or "dlr", default "ce").
        steps: gradient steps of each run (int >= 1, default 100).
        restarts: random starts, for each target class where there are any (int >= 1, default 1).
        target_classes: 0, or for "dlr" how many classes to aim at one after the other, the
            likeliest first; at most all but the label (int >= 0, default 0).
        samples: more than 1 for a model that answers at random: gradient, loss and logits are means
            over so many answers (expectation over transformation); such a model draws from its own
            generator, so two runs differ (int >= 1, default 1).
        seed: seed of the random starts (int >= 0, default 0).
    """

    loss: Annotated[str, Choice(("ce", "dlr"))] = "ce"
    steps: PositiveInt = 100
    restarts: PositiveInt = 1
    target_classes: NonNegativeInt = 0
    samples: PositiveInt = 1

    known_norms = ("inf", "2", "1")
    published = ("steps", "restarts")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss == "ce" and self.target_classes:
            raise InputError(
                f"target_classes must be 0 for loss 'ce'; received {self.target_classes}."
            )

    @property
    def name(self) -> str:
        return f"{self.registry_name}-{self.loss}" + ("-t" if self.target_classes else "")

    @property
    def answers(self) -> int:
        return self.samples

    @property
    def rule(self) -> Rule:
        if self.norm == "1":
            return SparseStep(self.loss, self.target_classes > 0, self.samples)
        return AutoStep(self.norm, self.loss, self.target_classes > 0, self.samples)

    @property
    def settings(self) -> State:
        if self.norm == "1":
            return sparse_settings(self.epsilon, self.steps)
        periods = np.array(checkpoint_periods(self.steps), np.float32)
        return {"epsilon": np.asarray(self.epsilon, np.float32), "periods": periods}

    @property
    def step_count(self) -> int:
        if self.norm == "1":
            # The last point is looked at apart, as ever.
            return len(self.settings["radii"]) - 1
        return self.steps

    @property
    def stays_inside(self) -> bool:
        return self.norm != "1"

    @property
    def restart_count(self) -> int:
        return self.restarts

    def rivals(self, num_classes: int) -> int:
        return min(self.target_classes, num_classes - 1)

    def objection(self, classifier: Classifier) -> str | None:
        needed = 4 if self.target_classes else 3
        if self.loss == "dlr" and classifier.num_classes < needed:
            return (
                f"loss must be 'ce' for a model of {classifier.num_classes} classes; {self.name} "
                f"compares the {needed} highest logits."
            )
        return super().objection(classifier)

    def start(self, batch: Batch) -> State:
        if self.norm == "1":
            return sparse_start(batch, self.epsilon)
        count, shape = len(batch.images), batch.images.shape[1:]
        noise = norms.random_on_sphere(batch.keys, shape, self.epsilon, self.norm)
        current = np.clip(batch.images + noise, 0, 1)
        lowest = np.full(count, -np.inf, np.float32)
        return {
            "current": current,
            "previous": current,
            "best": current,
            "best_gradient": np.zeros_like(current),
            "best_loss": lowest,
            "last_loss": lowest,
            "checked_loss": lowest,
            "halved": np.ones(count, bool),
            "rises": np.zeros(count, np.float32),
            "step_size": np.full(count, 2 * self.epsilon, np.float32),
        }


def checkpoint_periods(steps: int) -> list[int]:
    """Returns, for each step, how long ago the last checkpoint was if it is one, else 0.

    As in the authors' code: the first after 22 % of the steps, each period 3 % of the steps
    shorter than the one before, but no shorter than 6 %.
    """
    period, shortest = max(int(0.22 * steps), 1), max(int(0.06 * steps), 1)
    shrinkage = max(int(0.03 * steps), 1)
    periods, since = [0], 0
    for _ in range(1, steps):
        since += 1
        periods.append(period if since == period else 0)
        if since == period:
            period, since = max(period - shrinkage, shortest), 0
    return periods
