"""Accuracy of one model on clean, noisy and attacked images, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from robustcls._notebook import Brief, Briefly, few
from robustcls._settings import NonNegativeInt, PositiveInt, Severity, checked
from robustcls._validation import check_choice
from robustcls.attacks import Attack
from robustcls.classifiers.ranges import InputRange, Preprocess
from robustcls.data import noise
from robustcls.data.splits import Split
from robustcls.evaluation.evaluator import NOISES, Evaluator
from robustcls.evaluation.intervals import Measurement
from robustcls.evaluation.prediction import prepared, subset

__all__ = ["Evaluation", "Measurement", "evaluate"]


@dataclass(frozen=True, repr=False)
class Evaluation(Briefly):
    """What was measured of one model.

    Attributes:
        measurements: in the order they were taken.
    """

    measurements: tuple[Measurement, ...]

    def __getitem__(self, name: str) -> Measurement:
        return {measurement.name: measurement for measurement in self.measurements}[name]

    @property
    def accuracies(self) -> dict[str, float]:
        """Accuracy in [0, 1] by name."""
        return {measurement.name: measurement.accuracy for measurement in self.measurements}

    def brief(self) -> Brief:
        shares = [f"{m.name} {100 * m.accuracy:.1f} %" for m in self.measurements]
        rows = [
            [
                m.name,
                f"{100 * m.accuracy:.1f}",
                f"{100 * m.low:.1f} – {100 * m.high:.1f}",
                f"{m.count:,}",
            ]
            for m in self.measurements
        ]
        head = ("images", "accuracy in %", "95 % interval", "count")
        return Brief(few(shares), head, rows)


@checked
def evaluate(
    model: Any,
    data: Split | tuple[np.ndarray, np.ndarray] | tf.data.Dataset,
    *,
    attacks: Sequence[Attack] = (),
    corruptions: str | None = "cifar_c",
    severity: Severity = 5,
    attack_limit: PositiveInt | None = None,
    batch_size: PositiveInt = 128,
    seed: NonNegativeInt = 0,
    preprocess: Preprocess | None = None,
    input_range: InputRange | None = None,
    output: str | int | None = None,
    progress: bool = False,
) -> Evaluation:
    """Measures accuracy on clean images, under noise and under each attack.

    Args:
        model: a Keras classifier, float32 images [N, H, W, C] in [0, 1] to
            logits [N, classes], or what `attacks.adapt` takes or returns.
        data: a split, (images float32 [N, H, W, C] in [0, 1], labels int [N]), or a
            `tf.data.Dataset` of such pairs, batched or not, of float32 or uint8 images. Labels may
            be multi-hot rows [N, classes] for a model with a sigmoid for each class, or its logits:
            an image then counts as right when every class is answered right.
        attacks: attacks to run; a measurement bears the attack's name. With those for a model that
            answers at random (`samples=`, `AutoAttack(version="rand")`) every answer, to clean
            images too, is the mean of as many (default ()).
        corruptions: the scale that noise strengths come from: "cifar_c", "tiny_imagenet_c" or
            "imagenet_c"; None adds no noise (str or None, default "cifar_c").
        severity: of the noises (int in [1, 5], default 5).
        attack_limit: attack a random subset of at most that many images; None attacks all (int >= 1
            or None, default None).
        batch_size: images a forward pass (int >= 1, default 128).
        seed: seed of the noises and of the subset (int >= 0, default 0).
        preprocess: what the model wants done to images in [0, 1] first; epsilon stays in units of
            [0, 1] (default None).
        input_range: what the model wants 0 and 1 to be, for example (0, 255) or (-1, 1), instead of
            `preprocess` (default None).
        output: name or number of the output to measure, of a model with several (str, int or None,
            default None).
        progress: show progress bars (bool, default False).

    Raises:
        InputError: the images, labels, model or a setting is unusable.
    """
    classifier, images, labels = prepared(
        model,
        data,
        preprocess=preprocess,
        input_range=input_range,
        output=output,
        samples=max((attack.answers for attack in attacks), default=1),
    )
    if corruptions is not None:
        check_choice("corruptions", corruptions, noise.SEVERITIES)
    chosen = subset(len(images), attack_limit, seed)

    evaluator = Evaluator(classifier, images, labels, batch_size=batch_size, progress=progress)
    outcomes = [evaluator.changed("clean")]
    if corruptions is not None:
        drawn: dict[str, Any] = {"scale": corruptions, "severity": severity, "seed": seed}
        outcomes += [evaluator.noisy(name, **drawn) for name in NOISES]
    for attack in attacks:
        taken = {outcome.name for outcome in outcomes}
        name = f"{attack.name} (epsilon {attack.epsilon:.4g})" if attack.name in taken else None
        outcomes.append(evaluator.attacked(attack, chosen, name=name))
    return Evaluation(tuple(outcome.measurement for outcome in outcomes))
