"""`MapDetector`: detectors that tell where in an image the anomaly is."""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import tensorflow as tf

from anomaly.detection.detector import OneClassDetector
from anomaly.detection.thresholds import conformal_threshold
from anomaly.detection.views import ImageView
from anomaly.localization.boxes import Box, find_boxes, smooth

if TYPE_CHECKING:
    from robustcls.serving.exports.cases import Case
    from robustcls.serving.exports.endpoints import Endpoint
    from robustcls.serving.exports.samples import Samples

Detector = TypeVar("Detector", bound="MapDetector")


@dataclass(kw_only=True, eq=False)
class MapDetector(OneClassDetector):
    """A detector with one more hook, `anomaly_map_batch`, from whose maps boxes are made.

    Args:
        image_shape: (height, width, channels) of the images, sides ≥ 16, channels 1 or 3.
        augmentation: what training images go through (AugmentationPolicy or None, default None);
            None changes nothing.
        epochs: passes over the normal images; None is 20, more where images are few (int >= 1 or
            None, default None).
        batch_size: images a training step; None is 64, fewer where images are few (int >= 2 or
            None, default None).
        false_alarm_rate: share of normal images that may be called anomalies, and share that may
            have boxes (float in (0, 1), default 0.05).
        seed: of weights, order, augmentation and the held-out images (int >= 0, default 0).

    Attributes:
        threshold: images that score above it are anomalies; NaN before `fit`.
        pixel_threshold: pixels of the smoothed map above it belong to a box; NaN before `fit`.
    """

    makes_maps: ClassVar[bool] = True
    threshold_names: ClassVar[tuple[str, ...]] = ("threshold", "pixel_threshold")

    pixel_threshold: float = field(default=math.nan, init=False)

    @abc.abstractmethod
    def anomaly_map_batch(self, images: tf.Tensor) -> tf.Tensor:
        """Maps images [B, H, W, C] to how anomalous each pixel is, [B, H, W], ≥ 0.

        Args:
            images: float32 [N, H, W, C] in [0, 1].
        """

    def anomaly_map(self, images: Any, *, batch_size: int = 256) -> np.ndarray:
        """Returns how anomalous each pixel is, float32 [N, H, W], ≥ 0.

        Args:
            images: float32 [N, H, W, C] in [0, 1], of `image_shape`.
            batch_size: images a forward pass (int >= 1, default 256).

        Raises:
            InputError: unusable images, or no `fit` yet.
        """
        return self.run_batches("anomaly_map_batch", images, batch_size)

    def boxes(self, images: Any, *, batch_size: int = 256) -> list[list[Box]]:
        """Returns the boxes around what is anomalous in each image, the most anomalous first.

        At most a share `false_alarm_rate` of normal images has any, on average.
        An image need not have boxes because `predict` says so, nor the other way round.

        Args:
            images: float32 [N, H, W, C] in [0, 1], of `image_shape`.
            batch_size: images a forward pass (int >= 1, default 256).

        Raises:
            InputError: unusable images, or no `fit` yet.
        """
        maps = self.anomaly_map(images, batch_size=batch_size)
        return find_boxes(smooth(maps), self.pixel_threshold)

    def calibrate(
        self: Detector, normal_images: Any, false_alarm_rate: float | None = None
    ) -> Detector:
        """Takes the thresholds of images and pixels anew, or for another false-alarm rate.

        Args:
            normal_images: float32 [N, H, W, C] in [0, 1], never trained on.
            false_alarm_rate: kept from now on (float in (0, 1) or None, default None); None
                stays with the present one.

        Raises:
            InputError: unusable or too few images, or a training that diverged.
        """
        super().calibrate(normal_images, false_alarm_rate)
        # An image has boxes where its highest pixel is above, so this too counts images.
        highest = smooth(self.anomaly_map(normal_images)).max(axis=(1, 2))
        self.pixel_threshold = conformal_threshold(highest, self.false_alarm_rate)
        return self

    def view_images(self, images: np.ndarray) -> ImageView:
        """Returns the maps of images [N, H, W, C] and their boxes.

        Args:
            images: float32 [N, H, W, C] in [0, 1].
        """
        return ImageView(
            pictures={"map": self.anomaly_map(images)[..., None]},
            boxes=self.boxes(images),
            note="Boxes are where the smoothed map is above the pixel threshold.",
        )

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Returns also `anomaly_map` and `boxes` (with an optional `pixel_threshold`)."""
        from anomaly.detection.exporting import map_endpoints

        return (*super().endpoints(), *map_endpoints(self))

    def cases(self, served: Any, samples: Samples) -> dict[str, Case]:
        """Returns also those of `anomaly_map` and `boxes`.

        Args:
            served: the detector as its export computes.
            samples: the images.
        """
        from anomaly.detection.exporting import map_cases

        return {**super().cases(served, samples), **map_cases(self, served, samples)}
