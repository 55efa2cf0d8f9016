"""Measures what the checks judge, each figure once.

The attacks are not read from the registry: each check compares two of a known kind, such as more
steps with fewer, or queries with gradients, and an attack of unknown kind would prove nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from robustcls._progress import tqdm
from robustcls._validation import check_images, check_labels
from robustcls.attacks import APGD, PGD, Attack, AttackResult, Square, draws, norms
from robustcls.attacks.margins import margins
from robustcls.evaluation.trust.checked_model import CheckedModel
from robustcls.evaluation.trust.evidence import (
    LARGE_STEPS,
    RANDOM_DRAWS,
    REPEATS,
    RESTARTS,
    Evidence,
)

REPEATED_IMAGES = 64
LARGE_EPSILON = 0.5
APGD_STEPS = 40
FACTORS = (0.5, 2.0, 4.0)
_SLACK = 1e-6
_TIE = 1e-4


class EvidenceCollector:
    """Measures a model, one method for each kind of figure.

    Args:
        model: what attacks take, except functions without gradients.
        images: float32 [N, H, W, C] in [0, 1].
        labels: int [N].
        epsilon: radius of the ball.
        norm: "inf" or "2".
        attack: whose figures are judged, "pgd" or "apgd".
        steps: of PGD.
        queries: of Square.
        reference_models: other models by name, whose examples are tried on this one.
        seed: seed of everything random.
        batch_size: images the model sees at a time.
    """

    def __init__(
        self,
        model: Any,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        epsilon: float,
        norm: str,
        attack: str,
        steps: int,
        queries: int,
        reference_models: Mapping[str, Any],
        seed: int,
        batch_size: int,
    ) -> None:
        self.images = check_images(images)
        self.subject = CheckedModel(model, self.images, batch_size=batch_size)
        self.labels = check_labels(labels, len(images), self.subject.num_classes)
        self.epsilon, self.norm, self.attack = epsilon, norm, attack
        self.steps, self.queries = steps, queries
        self.reference_models, self.seed, self.batch_size = reference_models, seed, batch_size
        self.keys = draws.derive(draws.image_keys(self.images), seed)
        self.attacked = self.silent = self.outside = 0
        self.longest = 0.0

    def run(self, *, progress: bool) -> Evidence:
        """Returns everything, in the order that lets later attacks skip fallen images."""
        bar = tqdm(total=9, desc="checks", unit="part", disable=not progress, leave=False)

        def part(name: str) -> None:
            bar.set_postfix_str(name, refresh=False)
            bar.update()

        with bar:
            part("gradients")
            clean = self._right(self.images)
            gradient = self.subject.gradient(self.images, self.labels)
            figures = {"spread": self._spread(), **self._gradients(gradient)}
            fgsm = self._fgsm(gradient)
            part("PGD")
            pgd = self._attack(self._pgd())
            part("APGD")
            apgd = self._apgd()
            part("PGD, doubled steps")
            by_pgd = self.attack == "pgd"
            doubled = self._attack(self._pgd(steps=2 * self.steps), None if by_pgd else apgd)
            part("PGD, more restarts")
            # The first start is the one of `pgd`: only the images that stood it go on.
            again = self._pgd(restarts=RESTARTS - 1, seed=self.seed + 1)
            restarted = self._attack(again, pgd if by_pgd else pgd & apgd)
            white_box = restarted & doubled & fgsm & apgd
            part("radii")
            over_epsilon, large = self._over_epsilon(clean, pgd)
            part("Square")
            square = self._attack(self._square(), white_box)
            part("transfer")
            transferred, source = self._transfer(clean)
            part("random points")
            drawn = self._random(clean)
        return Evidence(
            count=len(self.images),
            num_classes=self.subject.num_classes,
            epsilon=self.epsilon,
            norm=self.norm,
            steps=self.steps,
            returns_probabilities=self.subject.returns_probabilities,
            clean=clean,
            fgsm=fgsm,
            pgd=pgd,
            apgd=apgd,
            attack=self.attack,
            doubled=doubled,
            restarted=restarted,
            white_box=white_box,
            square=square,
            transferred=transferred,
            source=source,
            drawn=drawn,
            over_epsilon=over_epsilon,
            large_epsilon=large[0],
            large_accuracy=large[1],
            attacked=self.attacked,
            silent=self.silent,
            outside=self.outside,
            longest=self.longest,
            **figures,
        )

    def _pgd(self, **changes: Any) -> PGD:
        settings = {"epsilon": self.epsilon, "steps": self.steps, "seed": self.seed}
        return PGD(norm=self.norm, **(settings | changes))

    def _apgd(self) -> np.ndarray:
        """Returns which images stand both losses."""
        ball: dict[str, Any] = {"epsilon": self.epsilon, "norm": self.norm, "seed": self.seed}
        standing = self._attack(APGD(loss="ce", steps=APGD_STEPS, **ball))
        if self.subject.num_classes > 2:
            standing = self._attack(APGD(loss="dlr", steps=APGD_STEPS, **ball), standing)
        return standing

    def _square(self) -> Square:
        return Square(epsilon=self.epsilon, norm=self.norm, queries=self.queries, seed=self.seed)

    def _right(self, images: np.ndarray) -> np.ndarray:
        return self.subject.answers(images).argmax(axis=1) == self.labels

    def _attack(self, attack: Attack, standing: np.ndarray | None = None) -> np.ndarray:
        """Returns which images stand, of those that stood before."""
        chosen = np.arange(len(self.images)) if standing is None else np.flatnonzero(standing)
        right = np.zeros(len(self.images), bool)
        if not len(chosen):
            return right
        images, labels = self.images[chosen], self.labels[chosen]
        result = attack(self.subject, images, labels, batch_size=self.batch_size)
        self._verify(result, images, labels, attack.epsilon)
        right[chosen] = ~result.success
        return right

    def _verify(
        self, result: AttackResult, images: np.ndarray, labels: np.ndarray, epsilon: float
    ) -> None:
        """Looks again at what an attack returned, whether it is what it claims, and legal."""
        answers = self.subject.answers(result.adversarial)
        # Float rounding differs from batch to batch and may turn a tie.
        lead = -margins(answers, labels) > _TIE * np.abs(answers).max(axis=1)
        self.attacked += int(result.success.sum())
        self.silent += int((result.success & lead).sum())
        self._measure(result.adversarial, images, epsilon)

    def _measure(self, adversarial: np.ndarray, images: np.ndarray, epsilon: float) -> None:
        offsets = (adversarial.astype(np.float64) - images).reshape(len(images), -1)
        lengths = np.linalg.norm(offsets, np.inf if self.norm == "inf" else 2, axis=1) / epsilon
        pixels = adversarial.reshape(len(images), -1)
        legal = (lengths * epsilon <= epsilon + _SLACK * max(1, epsilon)) & (
            (pixels >= 0) & (pixels <= 1)
        ).all(axis=1)
        self.outside += int((~legal).sum())
        self.longest = max(self.longest, float(np.nan_to_num(lengths, nan=np.inf).max()))

    def _spread(self) -> float:
        few = self.images[:REPEATED_IMAGES]
        answers = np.stack([self.subject.answers(few) for _ in range(REPEATS)])
        largest = np.maximum(np.abs(answers).max(axis=(0, 2)), 1e-12)
        return float((np.ptp(answers, axis=0).max(axis=1) / largest).max())

    def _gradients(self, gradient: np.ndarray) -> dict[str, float]:
        ball = norms.random_in_ball(
            draws.derive(self.keys, 2), self.images.shape[1:], self.epsilon, self.norm
        )
        nearby = self.subject.gradient(np.clip(self.images + ball, 0, 1), self.labels)
        through = self.subject.gradient_through_outputs(self.images, self.labels)
        return {
            "zero": float(_is_zero(gradient).mean()),
            "broken": float((~np.isfinite(gradient).all(axis=(1, 2, 3))).mean()),
            "zero_through_outputs": float(_is_zero(through).mean()),
            "alignment": float(_cosines(gradient, nearby).mean()),
        }

    def _fgsm(self, gradient: np.ndarray) -> np.ndarray:
        """One step from every image, misclassified ones too: an attack that should do harm."""
        moved = self._step(self.images, np.nan_to_num(gradient), self.epsilon)
        self._measure(moved, self.images, self.epsilon)
        return self._right(moved)

    def _step(self, points: np.ndarray, gradient: np.ndarray, step_size: float) -> np.ndarray:
        moved = points + step_size * norms.steepest_ascent(tf.constant(gradient), self.norm)
        radius = tf.constant(self.epsilon, tf.float32)
        return norms.project(moved, tf.constant(self.images), radius, self.norm).numpy()

    def _over_epsilon(
        self, clean: np.ndarray, pgd: np.ndarray
    ) -> tuple[tuple[tuple[float, float], ...], tuple[float, float]]:
        """Attacks each ball by itself: what fell in a smaller one is attacked again."""
        scale = 1.0 if self.norm == "inf" else float(np.sqrt(self.images[0].size))
        large = max(LARGE_EPSILON * scale, self.epsilon)
        accuracies = {0.0: float(clean.mean()), self.epsilon: float(pgd.mean())}
        for factor in FACTORS:
            epsilon = min(factor * self.epsilon, scale)
            if epsilon not in accuracies:
                accuracies[epsilon] = float(self._attack(self._pgd(epsilon=epsilon)).mean())
        strong = float(self._attack(self._pgd(epsilon=large, steps=LARGE_STEPS)).mean())
        accuracies.setdefault(large, strong)
        return tuple(sorted(accuracies.items())), (large, strong)

    def _transfer(self, clean: np.ndarray) -> tuple[np.ndarray, str]:
        """Plain PGD on other models; without any, on this one smoothed by random noise.

        Following the gradient at a random point near the iterate, another one each step, climbs
        the loss of the model averaged over that noise. It leads past gradients that hold only
        at a point.
        """
        step_size = 2.5 * self.epsilon / self.steps
        right = clean.copy()
        for model in self.reference_models.values():
            reference = CheckedModel(model, self.images, batch_size=self.batch_size)
            points = self.images
            for _ in range(self.steps):
                gradient = reference.gradient(points, self.labels)
                points = self._step(points, np.nan_to_num(gradient), step_size)
            right &= self._right(points)
        if self.reference_models:
            return right, f"examples made on {', '.join(self.reference_models)}"
        points = self.images
        for step in range(self.steps):
            keys = draws.derive(self.keys, 3, step)
            noise = norms.random_in_ball(keys, points.shape[1:], self.epsilon, self.norm)
            gradient = self.subject.gradient(np.clip(points + noise, 0, 1), self.labels)
            points = self._step(points, np.nan_to_num(gradient), step_size)
        return right & self._right(points), "examples made on a copy smoothed by noise"

    def _random(self, clean: np.ndarray) -> np.ndarray:
        right = clean.copy()
        for draw in range(RANDOM_DRAWS):
            keys = draws.derive(self.keys, 1, draw)
            offsets = norms.random_in_ball(keys, self.images.shape[1:], self.epsilon, self.norm)
            right &= self._right(np.clip(self.images + offsets, 0, 1))
        return right


def _is_zero(gradient: np.ndarray) -> np.ndarray:
    return (gradient == 0).all(axis=(1, 2, 3))


def _cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The cosine for each image; 0 where a gradient is zero or broken."""
    pairs = [np.nan_to_num(g.reshape(len(g), -1).astype(np.float64)) for g in (first, second)]
    lengths = np.prod([np.linalg.norm(vectors, axis=1) for vectors in pairs], axis=0)
    products = (pairs[0] * pairs[1]).sum(axis=1)
    return np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
