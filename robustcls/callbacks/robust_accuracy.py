"""`RobustAccuracy`: robustness in the logs of a training."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from robustcls._settings import PositiveInt, checked
from robustcls._validation import InputError
from robustcls.attacks import Attack
from robustcls.classifiers.adapters import classifier_of
from robustcls.classifiers.classifier import Classifier
from robustcls.classifiers.ranges import InputRange
from robustcls.data.pipeline import arrays_of
from robustcls.training.trainer import base_model_of


class RobustAccuracy(keras.callbacks.Callback):
    """Attacks held-out images after epochs and logs the accuracy that is left.

    It is in the epoch's logs, so in `History`, CSV files, TensorBoard and trackers, and callbacks
    further right in the list can monitor it:

        callbacks = [
            rc.callbacks.RobustAccuracy(rc.attacks.PGD(epsilon=8 / 255), (images, labels), every=2),
            keras.callbacks.EarlyStopping("robust_accuracy", mode="max", patience=4),
        ]

    The model is attacked in inference mode; of a trainer of this package its base model is.
    After an epoch that is not measured the last figure stands in the logs, which no callback
    takes for better than before.

    Args:
        attack: an untargeted attack, for example `rc.attacks.PGD(epsilon=8 / 255)`.
        images: a split, (images float32 [N, H, W, C] in [0, 1], labels int [N]), a
            `tf.data.Dataset` of such pairs, or the images alone with `labels`; a few hundred do.
        labels: int [N], where `images` are images alone (default None).
        every: epochs from one measurement to the next; the first and the last epoch are always
            measured (int >= 1, default 1).
        batch_size: images the model sees at a time (int >= 1, default 128).
        input_range: (low, high), what the model wants 0 and 1 to be, for example (0, 255); the
            trainer's where it has one, else (0, 1) (default None).
        name: in the logs (str, default "robust_accuracy").

    Raises:
        InputError: the attack, the images or the labels are unusable.
    """

    @checked
    def __init__(
        self,
        attack: Attack,
        images: Any,
        labels: Any = None,
        *,
        every: PositiveInt = 1,
        batch_size: PositiveInt = 128,
        input_range: InputRange | None = None,
        name: str = "robust_accuracy",
    ) -> None:
        super().__init__()
        if not isinstance(attack, Attack):
            raise InputError(
                f"attack must be an attack such as PGD(); received {type(attack).__name__}."
            )
        if attack.targeted:
            raise InputError("attack must not be targeted: accuracy is about the true labels.")
        found, self._labels = arrays_of(images if labels is None else (images, labels))
        self._images = found / np.float32(255) if found.dtype == np.uint8 else found
        self.attack, self.every, self.batch_size, self.name = attack, every, batch_size, name
        self.input_range, self._last = input_range, 0.0
        self._classifier: Classifier | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._measured, self._classifier = False, None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        last = epoch + 1 == (self.params or {}).get("epochs")
        if not self._measured or last or epoch % self.every == 0:
            if self._classifier is None:
                model: Any = self.model
                given = self.input_range or getattr(model, "input_range", None)
                self._classifier = classifier_of(base_model_of(model), input_range=given)
            result = self.attack(
                self._classifier, self._images, self._labels, batch_size=self.batch_size
            )
            self._last, self._measured = result.robust_accuracy, True
        if logs is not None:
            logs[self.name] = self._last
