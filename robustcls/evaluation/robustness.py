"""Accuracy of one model on clean, noisy and attacked images, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from scipy.stats import beta

from robustcls._settings import NonNegativeInt, PositiveInt, Severity, checked
from robustcls._validation import check_choice, check_images, check_labels
from robustcls.attacks import Attack
from robustcls.classifiers.adapters import classifier_of
from robustcls.data import noise
from robustcls.data.splits import Split
from robustcls.evaluation.passes import Change, floats, predict, prepare

NOISES = ("gaussian", "poisson", "salt_and_pepper")


@dataclass(frozen=True)
class Measurement:
    """An accuracy and how sure it is.

    Attributes:
        name: what the images went through: `clean`, a noise, or an attack.
        accuracy: the share of images classified right, in [0, 1].
        low, high: the 95 % Clopper-Pearson interval of `accuracy`.
        count: the number of images.
    """

    name: str
    accuracy: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Evaluation:
    """The measurements of one model, in the order they were taken."""

    measurements: tuple[Measurement, ...]

    def __getitem__(self, name: str) -> Measurement:
        return {measurement.name: measurement for measurement in self.measurements}[name]

    @property
    def accuracies(self) -> dict[str, float]:
        """Accuracy in [0, 1] by name."""
        return {measurement.name: measurement.accuracy for measurement in self.measurements}


@checked
def evaluate(
    model: Any,
    data: Split | tuple[np.ndarray, np.ndarray],
    *,
    attacks: Sequence[Attack] = (),
    corruptions: str | None = "cifar_c",
    severity: Severity = 5,
    attack_limit: PositiveInt | None = None,
    batch_size: PositiveInt = 128,
    seed: NonNegativeInt = 0,
    progress: bool = False,
) -> Evaluation:
    """Measures accuracy on clean images, under noise and under each attack.

    Args:
        model: a Keras classifier, float32 images [N, H, W, C] in [0, 1] to
            logits [N, classes], or what `attacks.adapt` takes or returns.
        data: a split, or (images float32 [N, H, W, C] in [0, 1], labels int [N]).
        attacks: attacks to run; a measurement bears the attack's name.
        corruptions: the scale that noise strengths come from: "cifar_c", "tiny_imagenet_c" or
            "imagenet_c"; None adds no noise.
        severity: of the noises, 1 to 5.
        attack_limit: attack a random subset of at most that many images; None attacks all.
        batch_size: images a forward pass.
        seed: seed of the noises and of the subset.
        progress: show progress bars.

    Raises:
        InputError: the images, labels, model or a setting is unusable.
    """
    if isinstance(data, Split):
        images, labels = data.images, data.labels
    else:
        images = check_images(data[0])
        labels = check_labels(data[1], len(images))
    classifier = classifier_of(model)
    labels = check_labels(labels, len(images), prepare(classifier, images))
    changes: dict[str, Change | None] = {"clean": None}
    if corruptions is not None:
        check_choice("corruptions", corruptions, noise.SEVERITIES)
        changes |= {name: noise_change(name, corruptions, severity, seed) for name in NOISES}

    settings: dict[str, Any] = {"batch_size": batch_size, "progress": progress}
    everything, measurements = np.arange(len(images)), []
    for name, change in changes.items():
        logits = predict(classifier, images, everything, change=change, name=name, **settings)
        right = int((logits.argmax(axis=1) == labels).sum())
        measurements.append(measure(name, right, len(images)))
    chosen = subset(len(images), attack_limit, seed)
    for attack in attacks:
        result = attack(classifier, floats(images[chosen]), labels[chosen], **settings)
        name = _unused_name(attack, measurements)
        measurements.append(measure(name, int((~result.success).sum()), len(chosen)))
    return Evaluation(tuple(measurements))


def noise_change(name: str, scale: str, severity: int, seed: int) -> Change:
    """Returns what adds one of `NOISES` to the images of a batch."""
    strength = noise.SEVERITIES[scale][name][severity - 1]

    def change(images: np.ndarray, number: int) -> tf.Tensor:
        return noise.NOISES[name](images, strength, (seed, number))

    return change


def measure(name: str, right: int, count: int) -> Measurement:
    """Returns `right` of `count` as an accuracy with its 95 % Clopper-Pearson interval."""
    low = beta.ppf(0.025, right, count - right + 1) if right else 0.0
    high = beta.ppf(0.975, right + 1, count - right) if right < count else 1.0
    return Measurement(name, right / count, float(low), float(high), count)


@checked
def subset(count: int, limit: PositiveInt | None, seed: int) -> np.ndarray:
    """Returns the sorted indices of a random subset of `limit` of `count` images."""
    if limit is None or limit >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).permutation(count)[:limit])


def _unused_name(attack: Attack, measurements: list[Measurement]) -> str:
    """The attack's name, with its epsilon where an earlier attack has that name."""
    if attack.name not in {measurement.name for measurement in measurements}:
        return attack.name
    return f"{attack.name} (epsilon {attack.epsilon:.4g})"
