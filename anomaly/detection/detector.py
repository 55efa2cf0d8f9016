"""`OneClassDetector`: what every detector can do, whatever its method."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from anomaly.detection.fitting import check_anomalies, kept_settings, open_fit, training_parts
from anomaly.detection.method import Method
from anomaly.detection.registry import check_own_name
from anomaly.detection.saving import SavedDetector, load_saved
from anomaly.detection.thresholds import conformal_threshold
from anomaly.detection.training import Record, Training
from anomaly.localization.boxes import Box
from robustcls._settings import Rate, checked
from robustcls._validation import InputError
from robustcls.serving.optional_packages import require_serving

Detector = TypeVar("Detector", bound="OneClassDetector")


class OneClassDetector(Method):
    """Learns what normal images look like and scores how far others are from that.

    A method is a subclass with a name, `method`, and three hooks: `build`, `train` and
    `score_batch`. Defined, it is on the command line, in `load` and in the benchmark under its
    name; a module of yours is named by `--import`. Settings of its own are fields of the class,
    which is then decorated with `@dataclass(kw_only=True, eq=False)`, and checked in
    `__post_init__` after `super().__post_init__()`. All that it learns is in the weights of the
    networks of `build`, so it can be saved.

    It may also say what images are to it (`encode_batch`), what a report shows of them
    (`view_images`, `view_features`) and what its export answers (`endpoints`, `cases`).
    `MapDetector` is the base of those that tell where in an image the anomaly is.

    Args:
        image_shape: (height, width, channels) of the images, sides ≥ 16, channels 1 or 3.
        augmentation: what training images go through (AugmentationPolicy or None, default None);
            None changes nothing.
        epochs: passes over the normal images; None is 20, more where images are few (int >= 1 or
            None, default None).
        batch_size: images a training step; None is 64, fewer where images are few (int >= 2 or
            None, default None).
        false_alarm_rate: share of normal images that may be called anomalies (float in (0, 1),
            default 0.05).
        seed: of weights, order, augmentation and the held-out images (int >= 0, default 0).

    Attributes:
        threshold: images that score above it are anomalies; NaN before `fit`.

    Raises:
        InputError: a setting out of range; for a subclass a missing hook or a taken `method`.
    """

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
        record: Record | None = None,
    ) -> Detector:
        """Learns from normal images and sets the thresholds.

        Args:
            normal_images: float32 [N, H, W, C] in [0, 1].
            anomalies: float32 [K, H, W, C] in [0, 1], a few known anomalies, for the methods that
                learn from some (default None).
            validation: float32 [M, H, W, C] in [0, 1], other normal images, to take the threshold
                from. When left out, a tenth of `normal_images`, or as many as the threshold needs,
                is kept from training (default None).
            folder: a new folder for checkpoints, `history.csv` and TensorBoard; None keeps none
                (default None).
            resume: go on from the last finished epoch of an interrupted fit in `folder` (bool,
                default False).
            verbose: 1 shows Keras' progress bars, 2 a line an epoch, 0 nothing (int, default 1).
            watch: called with the stage and the number of its epoch after each epoch. It may call
                `score`; nothing it does changes what is learned (default None).
            record: opens a record of a stage that Keras trains; see `Record` (default None).

        Returns:
            The detector itself. A second `fit` starts from nothing again.

        Raises:
            InputError: unusable images, all alike, or too few; anomalies for a method that takes
                none, or that are among the normal images; `folder` exists.
        """
        images, held_out, anomalies = self.check_fit(
            normal_images, anomalies=anomalies, validation=validation
        )
        words = self.choose(len(images), kept_settings(folder) if resume else None)
        if verbose and words:
            print(words, flush=True)
        if folder is not None:
            arrays = (images, held_out, anomalies)
            folder = open_fit(folder, self.method, self.get_config(), arrays, resume=resume)
        with self._own_code():
            self.networks = self.build()
        training = Training(
            images=images,
            validation=held_out,
            anomalies=anomalies,
            folder=folder,
            verbose=verbose,
            watch=watch,
            record=record,
        )
        try:
            with self._own_code():
                self.train(training)
            return self.calibrate(held_out)
        except BaseException:  # also Ctrl-C: what is half trained must not score
            self.networks = {}
            raise

    def check_fit(
        self, normal_images: Any, *, anomalies: Any = None, validation: Any = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Raises what `fit` would raise for these images, without training.

        Args:
            normal_images: float32 [N, H, W, C] in [0, 1].
            anomalies: float32 [K, H, W, C] in [0, 1], known anomalies, for the methods that learn
                from some (default None).
            validation: float32 [M, H, W, C] in [0, 1], normal images to take the threshold from;
                when left out, a tenth of `normal_images` (default None).

        Returns:
            The images to train on, those for the thresholds, and the anomalies.

        Raises:
            InputError: unusable or too few images, or anomalies among the normal ones.
        """
        if anomalies is not None:
            anomalies = self._check(anomalies, "anomalies")
            if not self.takes_anomalies:
                raise InputError(
                    f"anomalies must be None for {self.method}, which learns from normal images "
                    f"alone; received {len(anomalies)}."
                )
        given = self.counts_epochs and "batch_size" not in self.chosen and self.batch_size
        images, held_out = training_parts(
            self._check(normal_images, "normal_images"),
            None if validation is None else self._check(validation, "validation"),
            false_alarm_rate=self.false_alarm_rate,
            batch_size=given or 2,
            seed=self.seed,
        )
        if anomalies is not None:
            check_anomalies(anomalies, images, held_out)
        return images, held_out, anomalies

    @checked
    def calibrate(
        self: Detector, normal_images: Any, false_alarm_rate: Rate | None = None
    ) -> Detector:
        """Takes the thresholds anew from other normal images, or for another false-alarm rate.

        Args:
            normal_images: float32 [N, H, W, C] in [0, 1], never trained on.
            false_alarm_rate: in (0, 1), kept from now on; None stays with the present one (float in
                (0, 1) or None, default None).

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
            batch_size: images a forward pass; the scores do not depend on it (int >= 1, default
                256).

        Raises:
            InputError: unusable images, or no `fit` yet.
        """
        return self.run_batches("score_batch", images, batch_size)

    def predict(self, images: Any, *, batch_size: int = 256) -> np.ndarray:
        """Returns bool [N], True for anomalies: images that score above `threshold`.

        Args:
            images: float32 [N, H, W, C] in [0, 1], of `image_shape`.
            batch_size: images a forward pass (int >= 1, default 256).

        Raises:
            InputError: unusable images, or no `fit` yet.
        """
        return self.score(images, batch_size=batch_size) > np.float32(self.threshold)

    def encode(self, images: Any, *, batch_size: int = 256) -> np.ndarray:
        """Returns what the detector makes of each image, float32 [N, D].

        Args:
            images: float32 [N, H, W, C] in [0, 1], of `image_shape`.
            batch_size: images a forward pass (int >= 1, default 256).

        Raises:
            InputError: unusable images, or no `fit` yet.
        """
        return self.run_batches("encode_batch", images, batch_size)

    def boxes(self, images: Any, *, batch_size: int = 256) -> list[list[Box]]:
        """Returns boxes around what is anomalous, for the methods that make anomaly maps.

        Args:
            images: float32 [N, H, W, C] in [0, 1], of `image_shape`.
            batch_size: images a forward pass (int >= 1, default 256).

        Raises:
            InputError: the method makes none.
        """
        raise InputError(
            f"boxes must be asked of a method that makes anomaly maps; {self.method} makes none."
        )

    def save(self, folder: Path | str) -> Path:
        """Writes `config.json` and the weights; a detector saved there before is replaced.

        The new one is there whole once `config.json` is; until then the old one is.

        Args:
            folder: a new folder, or one that holds nothing.

        Raises:
            InputError: no `fit` yet, `folder` cannot be written or holds another `config.json`,
                or the class goes by the `method` of another.
        """
        self.require_fitted("save")
        check_own_name(type(self))
        return SavedDetector.of(self).write(Path(folder))

    @classmethod
    def load(cls: type[Detector], folder: Path | str) -> Detector:
        """Loads what `save` wrote. `OneClassDetector.load` loads a detector of any method.

        A method of your own is known once the module that defines it is imported.

        Args:
            folder: where `save` left the detector.

        Raises:
            InputError: there is no detector in `folder`, it is of another method or version, or
                its files are damaged.
        """
        return load_saved(Path(folder), cls)

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
                `robustcls.serving.check_export`; some that come with the package by default
                (default None).
            name: the detector's name in requests; its method by default (str or None, default
                None).
            version: its number; None takes the next (int or None, default None).

        Returns:
            The folder of the version.

        Raises:
            InputError: no `fit` yet, the version exists, or `out` cannot be written.
        """
        self.require_fitted("export")
        require_serving()
        from anomaly.detection.exporting import write_detector
        from robustcls.serving.exports.samples import embedded_images

        if images is None:
            images = embedded_images(self.image_shape)
        name = name or self.method
        return write_detector(self, out, images=images, name=name, version=version)
