"""What attacks share that look for the nearest misclassified point: one run gives every radius."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from robustcls._notebook import Brief, Briefly
from robustcls._settings import PositiveInt, checked
from robustcls._user_code import called
from robustcls.attacks import norms
from robustcls.attacks.gradient import GradientAttack
from robustcls.attacks.opening import open_task
from robustcls.attacks.task import AttackResult, Options, Task


@dataclass(frozen=True, eq=False, repr=False)
class Nearest(Briefly):
    """The nearest misclassified points that an attack found.

    Attributes:
        adversarial: float32 [N, H, W, C] in [0, 1]; the image itself where it is misclassified to
            begin with, or where nothing was found.
        distances: float32 [N], how far they are in the attack's norm; 0 where the image itself is
            misclassified, infinity where nothing was found.
        passes: int64 [N], how often the attack led each image through the model.
    """

    adversarial: np.ndarray
    distances: np.ndarray
    passes: np.ndarray

    @property
    def median(self) -> float:
        """The median distance: within that radius half of the images fall."""
        return float(np.median(self.distances))

    def robust_accuracy(self, epsilon: float) -> float:
        """Returns the share of images whose nearest point is farther than a radius, in [0, 1].

        Args:
            epsilon: the radius, >= 0.
        """
        return float((self.distances > epsilon).mean())

    def brief(self) -> Brief:
        found = np.isfinite(self.distances)
        return Brief(
            f"found points for {int(found.sum()):,} of {len(found):,} images, median distance "
            f"{self.median:.4g}"
        )


class NearestTask(Task):
    """Keeps the nearest misclassified point of each image; its margin is minus the distance."""

    def record(
        self, index: np.ndarray, points: np.ndarray, logits: np.ndarray, legal: np.ndarray
    ) -> np.ndarray:
        _, fooled = self.judge(logits, self.labels[index])
        margin = -_lengths(points - self.images[index], self.norm)
        better = fooled & (margin > self.margin[index])
        chosen = index[better]
        self.adversarial[chosen] = points[better]
        self.margin[chosen] = margin[better]
        self.touched[chosen] = self.success[chosen] = True
        # None of them is done.
        return np.zeros(len(index), bool)

    def begin(self, norm: str) -> None:
        """Forgets the margins of the images: nothing is near yet but what is wrong at once."""
        self.norm = norm
        self.margin = np.where(self.success, 0.0, -np.inf).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class MinimumNormAttack(GradientAttack, abstract=True):
    """An attack whose runs close in on the image, so that one run gives every radius.

    Called like any attack, it stops at images that fall within `epsilon`; `nearest` goes on.

    Args:
        epsilon: radius of the ball; above 1 only for norms other than "inf" (float in (0, 1],
            default 8/255).
        norm: of the ball ("inf", "2", "1" or "0", default "inf").
        seed: seed of everything random (int >= 0, default 0).
    """

    @property
    def stays_inside(self) -> bool:
        return False

    @checked
    def nearest(
        self,
        model: Any,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        batch_size: PositiveInt = 128,
        progress: bool = False,
        checkpoint: Path | str | None = None,
    ) -> Nearest:
        """Looks for the nearest misclassified point of every image, whatever `epsilon` is.

        Args:
            model: as for a call of the attack.
            images: float32 [N, H, W, C] in [0, 1].
            labels: int [N], or multi-hot rows [N, classes].
            batch_size: images the model sees at a time (int >= 1, default 128).
            progress: show a bar (bool, default False).
            checkpoint: a folder that keeps the state, with which a stopped run goes on (default
                None).

        Raises:
            InputError: images, labels or model do not fit together, or the checkpoint is of
                another model.
        """
        classifier, task = open_task(self, model, images, labels, batch_size, NearestTask)
        task.begin(self.norm)
        folder = None if checkpoint is None else Path(checkpoint)
        with called(f"attack '{self.registry_name}'", type(self)):
            self.run(classifier, task, Options(batch_size, progress, True, folder))
        return Nearest(task.adversarial, -task.margin, task.passes)

    @checked
    def over(
        self,
        model: Any,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        epsilons: Sequence[float],
        batch_size: PositiveInt = 128,
        progress: bool = False,
        active_set: bool = True,
        checkpoint: Path | str | None = None,
    ) -> dict[float, AttackResult]:
        """Attacks every image within balls of several radii, by one run for all of them.

        Args:
            model: as for a call of the attack.
            images: float32 [N, H, W, C] in [0, 1].
            labels: int [N], or multi-hot rows [N, classes].
            epsilons: the radii, in place of the attack's own.
            batch_size: images the model sees at a time (int >= 1, default 128).
            progress: show a bar (bool, default False).
            active_set: with one radius, leave an image alone once it has fallen (bool, default
                True).
            checkpoint: a folder that keeps the state, with which a stopped run goes on (default
                None).

        Returns:
            A result for each radius, in ascending order. Where it is too small for an image, its
            nearest point is moved into the ball.

        Raises:
            InputError: images, labels or model do not fit together; the checkpoint is of
                another model; or there is no radius.
        """
        radii = sorted(set(epsilons))
        settings: dict[str, Any] = {
            "batch_size": batch_size,
            "progress": progress,
            "checkpoint": checkpoint,
        }
        if len(radii) < 2:
            return super().over(
                model, images, labels, epsilons=radii, active_set=active_set, **settings
            )
        for epsilon in radii:
            dataclasses.replace(self, epsilon=epsilon)  # Checks it.
        nearest = self.nearest(model, images, labels, **settings)
        centers = np.asarray(images, np.float32)
        return {
            epsilon: AttackResult(
                norms.project(nearest.adversarial, centers, epsilon, self.norm).numpy(),
                nearest.distances <= epsilon,
                nearest.passes,
            )
            for epsilon in radii
        }


def _lengths(offsets: np.ndarray, norm: str) -> np.ndarray:
    return norms.lengths(tf.constant(offsets), norm).numpy()[:, 0, 0, 0]
