"""Accuracy by corruption and severity, and the figures the benchmarks make of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from robustcls._notebook import Brief, Briefly
from robustcls._validation import InputError

ALL_SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True, kw_only=True, repr=False)
class CorruptionReport(Briefly):
    """What a model is worth on corrupted images.

    Attributes:
        scale: where the images came from: a scale of `corruptions.SEVERITIES` or a folder's name.
        severities: the severities measured, each 1 to 5.
        accuracies: for each corruption, by its published name, the accuracy in [0, 1] at each
            severity.
        count: images behind each accuracy.
        clean: accuracy on the same images without corruption; None for prepared images.
        trained_on: those of the corruptions that training used too. Accuracy under them says
            little about corruptions the model has never seen.
        left_out: corruptions that were not measured, with the reason.
        seed: of the corruptions; None for prepared images.
    """

    scale: str
    severities: tuple[int, ...]
    accuracies: Mapping[str, tuple[float, ...]]
    count: int
    clean: float | None = None
    trained_on: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    seed: int | None = None

    def brief(self) -> Brief:
        rows = [[name, *(f"{100 * a:.1f}" for a in row)] for name, row in self.accuracies.items()]
        return Brief(
            f"{self.scale}, mean accuracy {100 * self.mean_accuracy:.1f} % over "
            f"{len(self.accuracies)} corruptions of {self.count:,} images",
            ("accuracy in % by severity", *map(str, self.severities)),
            rows,
        )

    @property
    def mean_accuracy(self) -> float:
        """The plain mean over corruptions and severities, as for CIFAR-10-C."""
        return float(np.mean(list(self.accuracies.values())))

    @property
    def mean_accuracy_unseen(self) -> float | None:
        """The plain mean without the corruptions used in training; None when none is left."""
        unseen = [row for name, row in self.accuracies.items() if name not in self.trained_on]
        return float(np.mean(unseen)) if unseen else None

    @property
    def mean_by_severity(self) -> tuple[float, ...]:
        """The mean over corruptions at each severity."""
        return tuple(float(mean) for mean in np.mean(list(self.accuracies.values()), axis=0))

    @property
    def errors(self) -> dict[str, float]:
        """The mean error in [0, 1] over severities by corruption."""
        return {name: 1 - float(np.mean(row)) for name, row in self.accuracies.items()}

    def corruption_errors(
        self, reference: CorruptionReport | Mapping[str, float]
    ) -> dict[str, float | None]:
        """Returns each corruption's error divided by the reference model's, as for ImageNet-C.

        Args:
            reference: the reference model's report, of the same scale and severities, or its mean
                error in (0, 1] by corruption.

        Returns:
            The ratio by corruption: 1 is as bad as the reference, less is better. None where the
            reference makes no error.

        Raises:
            InputError: the reference lacks a corruption or is of another scale or severities.
        """
        if isinstance(reference, CorruptionReport):
            for name in ("scale", "severities"):
                mine, other = getattr(self, name), getattr(reference, name)
                if mine != other:
                    raise InputError(
                        f"reference must be of {name} {mine}, as the report; received {other}."
                    )
            reference = reference.errors
        missing = [name for name in self.accuracies if name not in reference]
        if missing:
            raise InputError(
                f"reference must have an error for every corruption; {', '.join(missing)} missing."
            )
        return {
            name: error / reference[name] if reference[name] > 0 else None
            for name, error in self.errors.items()
        }

    def mean_corruption_error(
        self, reference: CorruptionReport | Mapping[str, float]
    ) -> float | None:
        """Returns mCE, the mean of `corruption_errors`; papers print it times 100.

        None where the reference makes no error under one of the corruptions.

        Raises:
            InputError: as `corruption_errors`.
        """
        ratios = [
            ratio for ratio in self.corruption_errors(reference).values() if ratio is not None
        ]
        return float(np.mean(ratios)) if len(ratios) == len(self.accuracies) else None

    def to_dict(
        self,
        reference: CorruptionReport | Mapping[str, float] | None = None,
        *,
        reference_name: str = "reference",
    ) -> dict[str, Any]:
        """Returns everything as JSON-serializable values.

        Args:
            reference: adds `corruption_errors` and `mce`, as measured against it.
            reference_name: what to call the reference model.

        Raises:
            InputError: as `corruption_errors`.
        """
        values: dict[str, Any] = {
            "scale": self.scale,
            "severities": list(self.severities),
            "count": self.count,
            "seed": self.seed,
            "clean": self.clean,
            "accuracies": {name: list(row) for name, row in self.accuracies.items()},
            "mean_accuracy": self.mean_accuracy,
            "mean_accuracy_unseen": self.mean_accuracy_unseen,
            "mean_by_severity": list(self.mean_by_severity),
            "trained_on": list(self.trained_on),
            "left_out": dict(self.left_out),
        }
        if reference is not None:
            values["reference"] = reference_name
            values["corruption_errors"] = self.corruption_errors(reference)
            values["mce"] = self.mean_corruption_error(reference)
        return values


def check_severities(severities: Sequence[int]) -> tuple[int, ...]:
    """Returns the severities as a tuple.

    Raises:
        InputError: none, one twice, or one that is no integer from 1 to 5.
    """
    found = tuple(severities)
    good = all(isinstance(value, int | np.integer) and 1 <= value <= 5 for value in found)
    if not found or not good or len(set(found)) < len(found):
        raise InputError(
            f"severities must be one or more different integers from 1 to 5; received {found}."
        )
    return tuple(int(value) for value in found)
