"""`OneClassDetector`: what every detector can do, whatever its method."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import keras
import numpy as np
import tensorflow as tf

from anomaly.detection.fitting import is_among, open_fit, training_parts
from anomaly.detection.layers import check_image_shape
from anomaly.detection.registry import detector_class
from anomaly.detection.saving import SavedDetector
from anomaly.detection.settings import Configurable
from anomaly.detection.thresholds import conformal_threshold
from anomaly.detection.training import Training
from robustcls._settings import (
    NonNegativeInt,
    PositiveInt,
    Range,
    Rate,
    check_settings,
    checked,
)
from robustcls._validation import InputError, check_images
from robustcls.data.augment import AugmentationPolicy
from robustcls.serving.optional_packages import require_serving

Detector = TypeVar("Detector", bound="OneClassDetector")


@dataclass(kw_only=True, eq=False)
class OneClassDetector(Configurable, abc.ABC):
    """Learns what normal images look like and scores how far others are from that.

    A method says in its own file how its networks are built, trained and read; the rest is here.

    Attributes:
        image_shape: (height, width, channels), channels 1 or 3.
        epochs: passes over the normal images.
        batch_size: images a training step.
        augmentation: what training images go through; None changes nothing.
        false_alarm_rate: share of normal images that may be called anomalies, in (0, 1).
        seed: of weights, order, augmentation and the held-out images.
        threshold: images that score above it are anomalies; NaN before `fit`.

    Raises:
        InputError: a setting out of range.
    """

    takes_anomalies: ClassVar[bool] = False
    _thresholds: ClassVar[tuple[str, ...]] = ("threshold",)

    epochs: PositiveInt = 20
    batch_size: Annotated[int, Range(minimum=2)] = 64
    false_alarm_rate: Rate = 0.05
    seed: NonNegativeInt = 0
    threshold: float = field(default=math.nan, init=False)

    def __post_init__(self) -> None:
        self.image_shape = check_image_shape(self.image_shape)
        check_settings(self)
        if self.augmentation is not None and not isinstance(self.augmentation, AugmentationPolicy):
            raise InputError(
                f"augmentation must be an AugmentationPolicy; received {self.augmentation!r}."
            )
        self._networks: dict[str, keras.Model] = {}
        self._compiled: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {}

    @abc.abstractmethod
    def _build(self) -> dict[str, keras.Model]:
        """Returns new networks by name: all that `score` needs and `save` keeps."""

    @abc.abstractmethod
    def _train(self, training: Training) -> None:
        """Trains `self._networks`."""

    @abc.abstractmethod
    def _score(self, images: tf.Tensor) -> tf.Tensor:
        """Maps images [B, H, W, C] to scores [B], each from its own image alone."""

    @abc.abstractmethod
    def _encode(self, images: tf.Tensor) -> tf.Tensor:
        """Maps images [B, H, W, C] to features [B, D]."""

    def fit(
        self: Detector,
        normal_images: Any,
        *,
        anomalies: Any = None,
        validation: Any = None,
        folder: Path | str | None = None,
        resume: bool = False,
        verbose: int = 1,
        watch: Callable[[str, int], None] | None = None,
    ) -> Detector:
        """Learns from normal images and sets the thresholds.

        Args:
            normal_images: float32 [N, H, W, C] in [0, 1].
            anomalies: float32 [K, H, W, C] in [0, 1], a few known anomalies, for the methods that
                learn from some.
            validation: float32 [M, H, W, C] in [0, 1], normal images that are not among
                `normal_images`, to take the threshold from. When left out, a tenth of
                `normal_images` (at least as many as the threshold needs) is kept from training.
            folder: a new folder for checkpoints, `history.csv` and TensorBoard; None keeps none.
            resume: go on from the last finished epoch of an interrupted fit in `folder`.
            verbose: 1 shows Keras' progress bars, 2 a line an epoch, 0 nothing.
            watch: called with the stage and the number of its epoch after each epoch. It may call
                `score`; nothing it does changes what is learned.

        Returns:
            The detector itself. A second `fit` starts from nothing again.

        Raises:
            InputError: unusable images, all alike, or fewer than a batch; too few for the
                threshold; anomalies for a method that takes none, or that are among the normal
                images; `folder` exists.
        """
        images, held_out, anomalies = self._fit_arrays(normal_images, anomalies, validation)
        if folder is not None:
            arrays = (images, held_out, anomalies)
            folder = open_fit(folder, self.method, self.get_config(), arrays, resume=resume)
        self._set(self._build())
        training = Training(
            images=images,
            validation=held_out,
            anomalies=anomalies,
            folder=folder,
            verbose=verbose,
            watch=watch,
        )
        try:
            self._train(training)
            return self.calibrate(held_out)
        except BaseException:  # also Ctrl-C: what is half trained must not score
            self._set({})
            raise

    def check_fit(
        self, normal_images: Any, *, anomalies: Any = None, validation: Any = None
    ) -> None:
        """Raises what `fit` would raise for these images, without training.

        Args:
            normal_images: float32 [N, H, W, C] in [0, 1].
            anomalies: float32 [K, H, W, C] in [0, 1], known anomalies, for the methods that learn
                from some (default None).
            validation: float32 [M, H, W, C] in [0, 1], normal images to take the threshold from
                (default None); when left out, a tenth of `normal_images`.

        Raises:
            InputError: unusable or too few images, or anomalies among the normal ones.
        """
        self._fit_arrays(normal_images, anomalies, validation)

    @checked
    def calibrate(
        self: Detector, normal_images: Any, false_alarm_rate: Rate | None = None
    ) -> Detector:
        """Takes the thresholds anew from other normal images, or for another false-alarm rate.

        Args:
            normal_images: float32 [N, H, W, C] in [0, 1], never trained on.
            false_alarm_rate: in (0, 1), kept from now on; None stays with the present one.

        Raises:
            InputError: unusable or too few images, or a training that diverged.
        """
        rate = false_alarm_rate or self.false_alarm_rate
        scores = self.score(normal_images)
        if not np.isfinite(scores).all():
            raise InputError(
                "normal_images must have finite scores; the training diverged. Try a smaller "
                "learning rate."
            )
        self.threshold = conformal_threshold(scores, rate)
        self.false_alarm_rate = rate
        return self

    def score(self, images: Any, *, batch_size: int = 256) -> np.ndarray:
        """Returns anomaly scores, float32 [N], higher = more anomalous.

        Args:
            images: float32 [N, H, W, C] in [0, 1].
            batch_size: images a forward pass; the scores do not depend on it.

        Raises:
            InputError: unusable images, or no `fit` yet.
        """
        return self._apply("_score", images, batch_size)

    def predict(self, images: Any, *, batch_size: int = 256) -> np.ndarray:
        """Returns bool [N], True for anomalies: images that score above `threshold`.

        Args:
            images: float32 [N, H, W, C] in [0, 1], of `image_shape`.
            batch_size: images a forward pass (int >= 1, default 256).

        Raises:
            InputError: unusable images, or no `fit` yet.
        """
        scores = self.score(images, batch_size=batch_size)
        return scores > np.float32(self.threshold)

    def encode(self, images: Any, *, batch_size: int = 256) -> np.ndarray:
        """Returns what the detector makes of each image, float32 [N, D].

        Args:
            images: float32 [N, H, W, C] in [0, 1], of `image_shape`.
            batch_size: images a forward pass (int >= 1, default 256).

        Raises:
            InputError: unusable images, or no `fit` yet.
        """
        return self._apply("_encode", images, batch_size)

    def save(self, folder: Path | str) -> Path:
        """Writes `config.json` and the weights; a detector saved there before is replaced.

        The new one is there whole once `config.json` is; until then the old one is.

        Raises:
            InputError: no `fit` yet, or `folder` cannot be written or holds another `config.json`.
        """
        self._check_fitted("save")
        arrays = {
            f"{name}/{index}": array
            for name, network in self._networks.items()
            for index, array in enumerate(network.get_weights())
        }
        thresholds = {name: getattr(self, name) for name in self._thresholds}
        saved = SavedDetector(self.method, self.get_config(), thresholds, arrays)
        return saved.write(Path(folder))

    @classmethod
    def load(cls: type[Detector], folder: Path | str) -> Detector:
        """Loads what `save` wrote. `OneClassDetector.load` loads a detector of any method.

        Raises:
            InputError: there is no detector in `folder`, it is of another method or version, or
                its files are damaged.
        """
        saved = SavedDetector.read(Path(folder))
        kind = detector_class(saved.method)
        if not issubclass(kind, cls):
            raise InputError(
                f"folder must hold a detector of {cls.method}; {folder} holds {kind.method}."
            )
        detector = kind.from_config(saved.settings)
        networks = detector._build()
        for name, network in networks.items():
            count = len(network.get_weights())
            network.set_weights([saved.arrays[f"{name}/{index}"] for index in range(count)])
        detector._set(networks)
        for name in kind._thresholds:
            setattr(detector, name, saved.thresholds[name])
        return detector

    def export(
        self,
        out: Path | str,
        *,
        images: Any = None,
        name: str | None = None,
        version: int | None = None,
    ) -> Path:
        """Writes the detector as the next version in `out`, ready for TensorFlow Serving.

        Args:
            out: the model's folder: version folders, configuration files.
            images: uint8 [N, H, W, C], real images whose answers are kept with the export for
                `robustcls.serving.check_export`; some that come with the package by default.
            name: the detector's name in requests; its method by default.
            version: its number; None takes the next.

        Returns:
            The folder of the version.

        Raises:
            InputError: no `fit` yet, the version exists, or `out` cannot be written.
        """
        self._check_fitted("export")
        require_serving()
        from anomaly.serving.exporting import write_detector
        from robustcls.serving.exports.samples import embedded_images

        if images is None:
            images = embedded_images(self.image_shape)
        name = name or self.method
        return write_detector(self, out, images=images, name=name, version=version)

    def _fit_arrays(
        self, normal_images: Any, anomalies: Any, validation: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Returns the images to train on, those for the thresholds, and the anomalies."""
        if anomalies is not None:
            anomalies = self._check(anomalies, "anomalies")
            if not self.takes_anomalies:
                raise InputError(
                    f"anomalies must be None for {self.method}, which learns from normal images "
                    f"alone; received {len(anomalies)}."
                )
        images, held_out = training_parts(
            self._check(normal_images, "normal_images"),
            None if validation is None else self._check(validation, "validation"),
            false_alarm_rate=self.false_alarm_rate,
            batch_size=self.batch_size,
            seed=self.seed,
        )
        if anomalies is not None:
            shared = int(is_among(anomalies, np.concatenate([images, held_out])).sum())
            if shared:
                raise InputError(
                    f"anomalies must not be among the normal images; {shared} of "
                    f"{len(anomalies)} are."
                )
        return images, held_out, anomalies

    def _run_stage(
        self,
        training: Training,
        stage: str,
        model: keras.Model,
        epochs: int,
        steps: int | None = None,
    ) -> None:
        """Trains a stage, named by its number first, in an order of its own."""
        training.run(
            stage,
            model,
            epochs=epochs,
            batch_size=self.batch_size,
            seed=self.seed + int(stage[0]),
            policy=self.augmentation,
            steps=steps,
        )

    def _set(self, networks: dict[str, keras.Model]) -> None:
        self._networks = networks
        self._compiled = {}

    def _check_fitted(self, purpose: str) -> None:
        if not self._networks:
            raise InputError(f"detector must be fitted before {purpose}; call fit first.")

    def _check(self, images: Any, argument: str) -> np.ndarray:
        array = check_images(images, argument)
        if array.shape[1:] != self.image_shape:
            expected = ", ".join(map(str, self.image_shape))
            raise InputError(f"{argument} must have shape [N, {expected}]; received {array.shape}.")
        return array

    @checked
    def _apply(self, function: str, images: Any, batch_size: PositiveInt) -> np.ndarray:
        self._check_fitted(function.strip("_"))
        images = self._check(images, "images")
        if function not in self._compiled:
            signature = tf.TensorSpec([None, *self.image_shape], tf.float32)
            # Concrete, or TensorFlow takes each further detector's first call for a retracing.
            self._compiled[function] = tf.function(getattr(self, function)).get_concrete_function(
                signature
            )
        parts = [
            self._compiled[function](tf.constant(images[start : start + batch_size])).numpy()
            for start in range(0, len(images), batch_size)
        ]
        return np.concatenate(parts)
