"""`Evaluator`: what one classifier makes of clean, noisy and attacked images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from robustcls.attacks import Attack
from robustcls.classifiers.answers import is_right
from robustcls.classifiers.classifier import Classifier
from robustcls.data import noise
from robustcls.evaluation.intervals import Measurement, measurement
from robustcls.evaluation.prediction import Change, floats, predict

NOISES = ("gaussian", "poisson", "salt_and_pepper")

# Images whose adversarial examples are held in memory at a time.
_PIECE = 1024


@dataclass(frozen=True, eq=False)
class Outcome:
    """How a classifier did on images that went through one thing.

    Attributes:
        name: what they went through: `clean`, a noise, or an attack.
        labels: int64 [n], or multi-hot bool [n, classes].
        right: bool [n], which are classified right, whatever an attack tried.
        logits: float32 [n, classes], of the images after it.
    """

    name: str
    labels: np.ndarray
    right: np.ndarray
    logits: np.ndarray

    @property
    def measurement(self) -> Measurement:
        """The accuracy with its interval."""
        return measurement(self.name, int(self.right.sum()), len(self.right))


class Evaluator:
    """Measures one classifier. Memory does not grow with the images, but for the logits.

    Args:
        classifier: one that has been prepared for the images.
        images: uint8, or float32 in [0, 1], [N, H, W, C]; a memmap is read piece by piece.
        labels: int64 [N], or a `MultiHot`.
        batch_size: images the model sees at a time, at least 1. Noise is drawn for whole batches,
            so another size draws another.
        progress: show progress bars.
    """

    def __init__(
        self,
        classifier: Classifier,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        batch_size: int,
        progress: bool = False,
    ) -> None:
        self.classifier, self.images, self.labels = classifier, images, labels
        self.settings: dict[str, Any] = {"batch_size": batch_size, "progress": progress}

    def changed(
        self, name: str, change: Change | None = None, places: np.ndarray | None = None
    ) -> Outcome:
        """Measures images that are changed batch by batch.

        Args:
            name: of what is done to them.
            change: does it; None leaves them as they are.
            places: int [n], which images; None takes all.
        """
        places = np.arange(len(self.images)) if places is None else places
        logits = self._logits(self.images, places, name, change)
        labels = self.labels[places]
        return Outcome(name, labels, is_right(logits, labels), logits)

    def noisy(self, name: str, *, scale: str, severity: int, seed: int) -> Outcome:
        """Measures all images under one of `NOISES`.

        Args:
            name: of the noise.
            scale: whose strengths: "cifar_c", "tiny_imagenet_c" or "imagenet_c".
            severity: 1 to 5.
            seed: of the noise.
        """
        strength = noise.SEVERITIES[scale][name][severity - 1]

        def change(images: np.ndarray, number: int) -> tf.Tensor:
            return noise.NOISES[name](images, strength, (seed, number))

        return self.changed(name, change)

    def attacked(
        self,
        attack: Attack,
        places: np.ndarray | None = None,
        *,
        name: str | None = None,
        checkpoint: Path | None = None,
    ) -> Outcome:
        """Measures images under an attack.

        Args:
            attack: the attack.
            places: int [n], which images; None takes all.
            name: what to call it; the attack's own name if None.
            checkpoint: a folder for the attack's state, with which a stopped one goes on.
        """
        places = np.arange(len(self.images)) if places is None else places
        name, labels = name or attack.name, self.labels[places]
        right, logits = [], []
        for start in range(0, len(places), _PIECE):
            piece = slice(start, start + _PIECE)
            result = attack(
                self.classifier,
                floats(self.images[places[piece]]),
                labels[piece],
                checkpoint=checkpoint,
                **self.settings,
            )
            right.append(~result.success)
            logits.append(self._logits(result.adversarial, np.arange(len(result.success)), name))
        return Outcome(name, labels, np.concatenate(right), np.concatenate(logits))

    def _logits(
        self, images: np.ndarray, places: np.ndarray, name: str, change: Change | None = None
    ) -> np.ndarray:
        return predict(self.classifier, images, places, change=change, name=name, **self.settings)
