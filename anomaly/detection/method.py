"""`Method`: what a detector's own file says, and what that stands on."""

from __future__ import annotations

import abc
import contextlib
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, cast

import keras
import numpy as np
import tensorflow as tf

from anomaly.detection.layers import check_image_shape, single_precision
from anomaly.detection.registry import METHODS
from anomaly.detection.saving import SavedDetector
from anomaly.detection.settings import Configurable
from anomaly.detection.training import Training
from anomaly.detection.views import FeatureView, ImageView
from robustcls._memory import within_memory
from robustcls._settings import (
    NonNegativeInt,
    PositiveInt,
    Range,
    Rate,
    check_settings,
    checked,
)
from robustcls._user_code import called
from robustcls._validation import InputError, check_images
from robustcls.data.augment import AugmentationPolicy
from robustcls.data.splits import FloatImages
from robustcls.training.choosing import small_batch

if TYPE_CHECKING:
    from robustcls.serving.exports.cases import Case
    from robustcls.serving.exports.endpoints import Endpoint
    from robustcls.serving.exports.samples import Samples

#: Steps of a pass, which few images are repeated for.
LEAST_STEPS = 30


@dataclass(kw_only=True, eq=False)
class Method(Configurable, abc.ABC):
    """Settings, hooks and networks of a detector; `OneClassDetector` documents them.

    Args:
        image_shape: (height, width, channels); the one setting that has no default.
        augmentation: an `AugmentationPolicy` that training images go through; None changes nothing
            (default None).
        epochs: passes over the normal images; None is as `usual` says, more where images are few
            (int >= 1 or None, default None).
        batch_size: images a training step; None is 64, fewer where images are few (int >= 2 or
            None, default None).
        false_alarm_rate: share of normal images that may be called anomalies (float in (0, 1),
            default 0.05).
        seed: of everything random (int >= 0, default 0).
    """

    #: Whether `fit` can learn from known anomalies too.
    takes_anomalies: ClassVar[bool] = False
    #: Whether the method is made for known anomalies, so that a benchmark gives it some.
    wants_anomalies: ClassVar[bool] = False
    #: Whether `epochs` says how long it trains.
    counts_epochs: ClassVar[bool] = True
    #: Whether there is an anomaly map of each image, and boxes.
    makes_maps: ClassVar[bool] = False
    #: The attributes that `calibrate` sets and `save` keeps.
    threshold_names: ClassVar[tuple[str, ...]] = ("threshold",)
    #: What passes are on many images, by the setting that counts them.
    usual: ClassVar[Mapping[str, int]] = {"epochs": 20}

    epochs: PositiveInt | None = None
    batch_size: Annotated[int, Range(minimum=2)] | None = None
    false_alarm_rate: Rate = 0.05
    seed: NonNegativeInt = 0
    threshold: float = field(default=math.nan, init=False)
    #: What `choose` filled in last.
    chosen: Mapping[str, Any] = field(default_factory=dict, init=False, repr=False)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "method" not in cls.__dict__:
            return
        members = ((name, getattr(cls, name, None)) for name in dir(cls))
        lacking = [name for name, value in members if getattr(value, "__isabstractmethod__", False)]
        if lacking:
            raise InputError(f"method {cls.method} must define {', '.join(lacking)}; see help().")
        METHODS.add(cls.method, cls)

    def __post_init__(self) -> None:
        self._check_class()
        self.image_shape = check_image_shape(self.image_shape)
        check_settings(self)
        if self.augmentation is not None and not isinstance(self.augmentation, AugmentationPolicy):
            raise InputError(
                f"augmentation must be an AugmentationPolicy; received {self.augmentation!r}."
            )
        self.networks = {}

    @abc.abstractmethod
    def build(self) -> dict[str, keras.Model]:
        """Returns new networks by name: all that `score_batch` needs and `save` keeps."""

    @abc.abstractmethod
    def train(self, training: Training) -> None:
        """Trains `self.networks`, in most methods by `run_stage` with a compiled Keras model."""

    @abc.abstractmethod
    def score_batch(self, images: tf.Tensor) -> tf.Tensor:
        """Maps images [B, H, W, C] to scores [B], each from its own image alone."""

    def encode_batch(self, images: tf.Tensor) -> tf.Tensor:
        """Maps images [B, H, W, C] to features [B, D]; the pixels unless a method says other."""
        return tf.reshape(images, [tf.shape(images)[0], math.prod(self.image_shape)])

    def view_images(self, images: np.ndarray) -> ImageView:
        """Returns what a report shows beside images [N, H, W, C]; nothing unless overridden."""
        return ImageView()

    def view_features(self, images: np.ndarray, normal: np.ndarray) -> FeatureView:
        """Returns points for a report's projection of images [N, H, W, C]; `normal` is bool [N]."""
        return FeatureView(points=self.run_batches("encode_batch", images))

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Returns the signatures of an export; a subclass adds its own to these.

        `serving_default` and `serving_bytes` (score and verdict), `score`, `detect` (with an
        optional `threshold`) and `decode`.
        """
        from anomaly.detection.exporting import score_endpoints

        return score_endpoints(self)

    def cases(self, served: Any, samples: Samples) -> dict[str, Case]:
        """Returns inputs and right answers of each of `endpoints`, for `check_export`.

        Args:
            served: the detector as it is served, its batch norms folded into other layers.
            samples: the images in all forms.
        """
        from anomaly.detection.exporting import score_cases

        return score_cases(self, samples)

    @property
    def networks(self) -> dict[str, keras.Model]:
        """The networks of `build` by name; none before `fit`."""
        return self._networks

    @networks.setter
    def networks(self, networks: dict[str, keras.Model]) -> None:
        self._networks = networks
        self._compiled: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {}

    def choose(self, count: int, kept: Mapping[str, Any] | None = None) -> str:
        """Fills in the settings that were left out, by the number of images; `fit` calls it.

        What an earlier `choose` filled in is chosen anew, what was given stays.

        Args:
            count: normal images to train on.
            kept: settings of an interrupted training that goes on, which are taken instead
                (default None).

        Returns:
            What was chosen and why, in one line; "" when nothing was.
        """
        for name in self.chosen:
            setattr(self, name, None)
        wanted: dict[str, Any] = self.sensible(count)
        wanted |= {n: kept[n] for n in wanted if kept and kept.get(n) is not None}
        self.chosen = {n: v for n, v in wanted.items() if getattr(self, n, 0) is None}
        for name, value in self.chosen.items():
            setattr(self, name, value)
        words = ", ".join(f"{name} {value:g}" for name, value in self.chosen.items())
        return words and f"Chosen for {count:,} normal images: {words}."

    def sensible(self, count: int) -> dict[str, int]:
        """Returns the batch size and the passes for so many images, where none are given.

        A subclass adds settings of its own whose default is None.

        Args:
            count: normal images to train on.
        """
        batch_size = self.batch_size or small_batch(count)
        repeated = -(-LEAST_STEPS // max(1, count // batch_size))
        return {"batch_size": batch_size, **{n: v * repeated for n, v in self.usual.items()}}

    def run_stage(
        self,
        training: Training,
        stage: str,
        model: keras.Model,
        epochs: int,
        steps: int | None = None,
    ) -> None:
        """Trains a stage, named by its number first, in an order of its own; see `Training.run`."""
        training.run(
            stage,
            model,
            epochs=epochs,
            batch_size=int(self.batch_size or 0),
            seed=self.seed + int(stage[0]),
            policy=self.augmentation,
            steps=steps,
        )

    @checked
    def run_batches(self, hook: str, images: Any, batch_size: PositiveInt = 256) -> np.ndarray:
        """Applies a method of a batch, for example "score_batch", to images [N, H, W, C].

        Raises:
            InputError: unusable images, or no `fit` yet.
        """
        self.require_fitted(hook.removesuffix("_batch").strip("_"))
        images = self._check(images, "images")
        with self._own_code(), within_memory(batch_size):
            if hook not in self._compiled:
                signature = tf.TensorSpec([None, *self.image_shape], tf.float32)
                # Concrete, or TensorFlow takes each further detector's first call for a retracing.
                traced = tf.function(getattr(self, hook)).get_concrete_function(signature)
                self._compiled[hook] = traced
            parts = [
                self._compiled[hook](tf.constant(images[start : start + batch_size])).numpy()
                for start in range(0, len(images), batch_size)
            ]
        return np.concatenate(parts)

    def require_fitted(self, purpose: str) -> None:
        """Raises `InputError` before `fit`."""
        if not self.networks:
            raise InputError(f"detector must be fitted before {purpose}; call fit first.")

    @contextlib.contextmanager
    def _own_code(self) -> Iterator[None]:
        """Around hooks: in float32, and what those of a user's class raise is one line."""
        with called(f"detector '{self.method}'", type(self)), single_precision():
            yield

    def _check_class(self) -> None:
        own = type(self)
        if not hasattr(own, "method"):
            raise InputError(f"{own.__name__} must have a method, the name that it goes by.")
        fields = inspect.get_annotations(own).items()
        settings = [name for name, kind in fields if "ClassVar" not in str(kind)]
        if settings and "__dataclass_fields__" not in own.__dict__:
            raise InputError(
                f"{own.__name__} must be decorated with @dataclass(kw_only=True, eq=False) to have "
                f"settings; received {', '.join(settings)}."
            )

    def _check(self, images: Any, argument: str) -> np.ndarray:
        array: Any = images
        if not isinstance(images, FloatImages):  # which are in [0, 1]
            array = check_images(images, argument)
        elif not type(self).train.__module__.startswith("anomaly."):
            array = images[:]  # ours alone read the images in parts
        if array.shape[1:] != self.image_shape:
            expected = ", ".join(map(str, self.image_shape))
            raise InputError(f"{argument} must have shape [N, {expected}]; received {array.shape}.")
        return cast(np.ndarray, array)

    def __reduce__(self) -> tuple[Any, ...]:
        return SavedDetector.restore, (SavedDetector.of(self), type(self))
