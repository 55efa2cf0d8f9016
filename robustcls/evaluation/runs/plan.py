"""The parts that the evaluation of one model is made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from robustcls._validation import InputError, check_choice, check_labels
from robustcls.attacks import ATTACKS, FMN, PGD, Attack
from robustcls.classifiers.adapters import classifier_of
from robustcls.classifiers.ranges import require_fitting_range
from robustcls.evaluation.calibration import calibration
from robustcls.evaluation.corruptions.corruption import SEVERITIES
from robustcls.evaluation.corruptions.evaluation import evaluate_corruptions, named_corruptions
from robustcls.evaluation.corruptions.prepared import evaluate_corruption_folder
from robustcls.evaluation.corruptions.registry import CORRUPTIONS
from robustcls.evaluation.evaluator import NOISES, Evaluator, Outcome
from robustcls.evaluation.prediction import prepare, subset
from robustcls.evaluation.reports.attacked import SHOWN, attacked_images
from robustcls.evaluation.runs.config import ATTACK_SETTINGS, EvaluationConfig
from robustcls.evaluation.runs.models import ModelsAndImages, StoredModel
from robustcls.evaluation.trust import assessment as trust

CURVE_FACTORS = tuple(np.arange(1, 17) / 8)
"""Multiples of epsilon at which the curve over epsilon is drawn."""


@dataclass(frozen=True)
class Part:
    """A piece of work whose result can be kept.

    Attributes:
        name: unique for a model.
        depends_on: what decides the result besides the model and the images.
        measure: returns the result, JSON-serializable, given a folder for its state.
    """

    name: str
    depends_on: dict[str, Any]
    measure: Callable[[Path], dict[str, Any]]


def attacks_of(config: EvaluationConfig) -> list[Attack]:
    """Returns the attacks that a configuration names, in its order."""
    settings = {name: getattr(config, name) for name in ATTACK_SETTINGS}
    if config.samples is None:
        del settings["samples"]
    return [ATTACKS[name].from_settings(settings) for name in config.attacks]


class EvaluationPlan:
    """What is measured of one model, which is loaded when the first part is measured.

    Args:
        evaluated: the images, and the other models for the trust checks.
        stored: the model.
        config: what to measure.
        progress: show progress bars.

    Raises:
        InputError: the configuration asks for corruptions that there are not.
    """

    def __init__(
        self,
        evaluated: ModelsAndImages,
        stored: StoredModel,
        config: EvaluationConfig,
        progress: bool,
    ) -> None:
        self.stored, self.config = stored, config
        self.test, self.class_names = evaluated.test, evaluated.class_names
        self.source, self.trained_on = evaluated.source, evaluated.trained_on
        self.others = [other for other in evaluated.models if other is not stored]
        self.settings: dict[str, Any] = {"batch_size": config.batch_size, "progress": progress}
        self.parts = self._parts()
        """What the configuration asks for, the quickest first."""

    @cached_property
    def model(self) -> Any:
        return self.stored.load()

    @property
    def samples(self) -> int:
        """Answers that are averaged of a model that answers at random."""
        return max((attack.answers for attack in attacks_of(self.config)), default=1)

    @cached_property
    def evaluator(self) -> Evaluator:
        """What measures the model, which fits the images.

        Raises:
            InputError: it does not.
        """
        classifier = classifier_of(self.model)
        num_classes = prepare(classifier, self.test.images, self.samples)
        if num_classes != len(self.class_names):
            raise InputError(
                f"data must have the {num_classes} classes of the model; {self.source} has "
                f"{len(self.class_names)}."
            )
        labels = check_labels(self.test.labels, len(self.test), num_classes)
        require_fitting_range(classifier, self.test.images, labels)
        return Evaluator(classifier, self.test.images, labels, **self.settings)

    def _parts(self) -> list[Part]:
        config, seed = self.config, self.config.seed
        parts = [Part("clean", {}, self._clean)]
        drawn = {
            "scale": check_choice("noise_scale", config.noise_scale, SEVERITIES),
            "severity": config.severity,
            "batch_size": config.batch_size,
            "seed": seed,
        }
        parts += [Part(name, drawn, partial(self._noise, name)) for name in NOISES]
        for attack in attacks_of(config):
            depends_on = {"attack": repr(attack), "limit": config.limit, "seed": seed}
            parts.append(Part(attack.name, depends_on, partial(self._attack, attack)))
        for shown in attacks_of(config)[-1:]:
            settings = {"attack": repr(shown), "limit": config.limit, "seed": seed, "shown": SHOWN}
            parts.append(Part("images", settings, partial(self._images, shown)))
        # One run for all radii takes a model that answers the same each time.
        if config.curve_limit and config.attacks and self.samples == 1:
            depends_on = {"attack": repr(self._curve_attack), "limit": config.curve_limit}
            parts.append(Part("curve", depends_on, self._curve))
        if config.corruptions is not None:
            depends_on = {
                "corruptions": _stamp(config.corruptions, config.noise_scale),
                "limit": config.limit,
                "batch_size": config.batch_size,
                "seed": seed,
            }
            parts.append(Part("corruptions", depends_on, self._corruptions))
        if config.trust:
            others = [other.digest for other in self.others]
            depends_on = {
                "attack": repr(self._checking_attack),
                "judged": self._judged_attack,
                "images": config.trust_images,
                "others": ", ".join(others),
            }
            parts.append(Part("trust", depends_on, self._trust))
        names = [part.name for part in parts]
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"attack must have a name that is free; received {name!r}.")
        return parts

    def _clean(self, _: Path) -> dict[str, Any]:
        return self._figures(self.evaluator.changed("clean"))

    def _noise(self, name: str, _: Path) -> dict[str, Any]:
        config = self.config
        return self._figures(
            self.evaluator.noisy(
                name, scale=config.noise_scale, severity=config.severity, seed=config.seed
            )
        )

    def _attack(self, attack: Attack, state: Path) -> dict[str, Any]:
        places = subset(len(self.test), self.config.limit, self.config.seed)
        return self._figures(self.evaluator.attacked(attack, places, checkpoint=state))

    def _images(self, attack: Attack, _: Path) -> dict[str, Any]:
        places = subset(len(self.test), self.config.limit, self.config.seed)
        return attacked_images(self.evaluator, attack, self.test, places, self.config.seed)

    def _figures(self, outcome: Outcome) -> dict[str, Any]:
        labels, right, width = outcome.labels, outcome.right, len(self.class_names)
        judged = calibration(
            outcome.logits, labels, independent=self.evaluator.classifier.outputs.independent
        )
        confusion = np.zeros((width, width), np.int64)
        np.add.at(confusion, (labels, outcome.logits.argmax(axis=1)), 1)
        return {
            "measurement": dataclasses.asdict(outcome.measurement),
            "confusion": confusion.tolist(),
            "right_by_class": np.bincount(labels[right], minlength=width).tolist(),
            "count_by_class": np.bincount(labels, minlength=width).tolist(),
            "calibration": dataclasses.asdict(judged),
        }

    @property
    def _curve_attack(self) -> FMN:
        return FMN(epsilon=self.config.epsilon, norm=self.config.norm)

    def _curve(self, state: Path) -> dict[str, Any]:
        config = self.config
        few = self.test.take(subset(len(self.test), config.curve_limit, config.seed))
        nearest = self._curve_attack.nearest(
            self.evaluator.classifier,
            few.float_images(),
            few.labels,
            checkpoint=state,
            **self.settings,
        )
        most = 1.0 if config.norm == "inf" else np.inf
        radii = [0.0, *sorted({min(most, factor * config.epsilon) for factor in CURVE_FACTORS})]
        median = nearest.median
        return {
            "points": [[float(radius), nearest.robust_accuracy(radius)] for radius in radii],
            "count": len(few),
            "median_distance": median if np.isfinite(median) else None,
        }

    def _corruptions(self, _: Path) -> dict[str, Any]:
        classifier, name = self.evaluator.classifier, str(self.config.corruptions)
        settings = {"limit": self.config.limit, "seed": self.config.seed, **self.settings}
        settings["trained_on"] = self.trained_on
        if named := named_corruptions(name, self.config.noise_scale):
            scale, names = named
            report = evaluate_corruptions(
                classifier, self.test, scale=scale, names=names, **settings
            )
        else:
            report = evaluate_corruption_folder(classifier, name, **settings)
        return dataclasses.asdict(report)

    @property
    def _checking_attack(self) -> PGD:
        config = self.config
        return PGD(epsilon=config.epsilon, norm=config.norm, steps=config.steps, seed=config.seed)

    @property
    def _judged_attack(self) -> str:
        """Whose figures the trust checks are for: the strongest's."""
        return "apgd" if {"apgd", "autoattack", "fast"} & set(self.config.attacks) else "pgd"

    def _trust(self, _: Path) -> dict[str, Any]:
        config = self.config
        few = self.test.take(subset(len(self.test), config.trust_images, config.seed))
        checks = trust.check(
            self.model,
            few.float_images(),
            few.labels,
            epsilon=config.epsilon,
            norm=config.norm,
            num_images=len(few),
            attack=self._judged_attack,
            steps=config.steps,
            reference_models={other.name: other.load() for other in self.others},
            seed=config.seed,
            **self.settings,
        )
        return {
            "summary": trust.summary(checks),
            "believable": trust.believable(checks),
            "count": len(few),
            "checks": [dataclasses.asdict(check) | {"status": check.status} for check in checks],
        }


def _stamp(corruptions: str, scale: str) -> Any:
    """What tells one set of corruptions from another: scale and names, or a folder's files."""
    if named := named_corruptions(corruptions, scale):
        return named[0] if named[1] is None else list(named)
    folder = Path(corruptions)
    if not folder.is_dir():
        check_choice(
            "corruptions", corruptions, [*SEVERITIES, *CORRUPTIONS, "a folder of .npy files"]
        )
    files = sorted(folder.glob("*.npy"))
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def depends_on(evaluated: ModelsAndImages, plan: EvaluationPlan, part: Part) -> dict[str, Any]:
    """Returns all that decides the result of a part.

    Args:
        evaluated: the images.
        plan: of the model.
        part: one of the plan's.
    """
    return {
        "part": part.depends_on,
        "model": plan.stored.digest,
        "data": evaluated.fingerprint,
    }
