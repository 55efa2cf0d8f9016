"""Accuracy of one model on clean, noisy and attacked images, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from scipy.stats import beta
from tqdm import tqdm

from robustcls._validation import check_choice, check_images, check_labels, check_number
from robustcls.attacks import Attack
from robustcls.attacks.base import check_model
from robustcls.data import noise
from robustcls.data.splits import Split

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


def evaluate(
    model: keras.Model,
    data: Split | tuple[np.ndarray, np.ndarray],
    *,
    attacks: Sequence[Attack] = (),
    corruptions: str | None = "cifar_c",
    severity: int = 5,
    attack_limit: int | None = None,
    batch_size: int = 128,
    seed: int = 0,
    progress: bool = False,
) -> Evaluation:
    """Measures accuracy on clean images, under noise and under each attack.

    Args:
        model: Keras classifier, float32 images [N, H, W, C] in [0, 1] to logits [N, classes].
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
        images, labels = data.float_images(), data.labels
    else:
        images = check_images(data[0])
        labels = check_labels(data[1], len(images))
    num_classes = check_model(model, images)
    labels = check_labels(labels, len(images), num_classes)
    check_number("severity", severity, minimum=1, maximum=5, integer=True)
    check_number("batch_size", batch_size, minimum=1, integer=True)

    @tf.function(reduce_retracing=True)
    def predict(batch: tf.Tensor) -> tf.Tensor:
        return tf.argmax(model(batch, training=False), -1)

    def count_right(name: str | None) -> int:
        right = 0
        starts = range(0, len(images), batch_size)
        for number, start in enumerate(
            tqdm(starts, desc=name or "clean", unit="batch", disable=not progress, leave=False)
        ):
            batch = tf.constant(images[start : start + batch_size])
            if name is not None and corruptions is not None:
                strength = noise.SEVERITIES[corruptions][name][severity - 1]
                batch = getattr(noise, name)(batch, strength, (seed, number))
            right += int((predict(batch).numpy() == labels[start : start + batch_size]).sum())
        return right

    measurements = [measure("clean", count_right(None), len(images))]
    if corruptions is not None:
        check_choice("corruptions", corruptions, noise.SEVERITIES)
        for name in NOISES:
            measurements.append(measure(name, count_right(name), len(images)))
    chosen = subset(len(images), attack_limit, seed)
    for attack in attacks:
        result = attack(
            model, images[chosen], labels[chosen], batch_size=batch_size, progress=progress
        )
        name = _unused_name(attack, measurements)
        measurements.append(measure(name, int((~result.success).sum()), len(chosen)))
    return Evaluation(tuple(measurements))


def measure(name: str, right: int, count: int) -> Measurement:
    """Returns `right` of `count` as an accuracy with its 95 % Clopper-Pearson interval."""
    low = beta.ppf(0.025, right, count - right + 1) if right else 0.0
    high = beta.ppf(0.975, right + 1, count - right) if right < count else 1.0
    return Measurement(name, right / count, float(low), float(high), count)


def subset(count: int, limit: int | None, seed: int) -> np.ndarray:
    """Returns the sorted indices of a random subset of `limit` of `count` images."""
    if limit is None or limit >= count:
        return np.arange(count)
    check_number("limit", limit, minimum=1, integer=True)
    return np.sort(np.random.default_rng(seed).permutation(count)[:limit])


def _unused_name(attack: Attack, measurements: list[Measurement]) -> str:
    """The attack's name, with its epsilon where an earlier attack has that name."""
    if attack.name not in {measurement.name for measurement in measurements}:
        return attack.name
    return f"{attack.name} (epsilon {attack.epsilon:.4g})"
