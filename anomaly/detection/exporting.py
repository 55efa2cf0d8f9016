"""A detector as a SavedModel for TensorFlow Serving."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import tensorflow as tf

from anomaly.detection.layers import single_precision
from anomaly.localization.boxes import find_boxes, smooth
from anomaly.localization.graph import MOST_BOXES, as_arrays, boxes_of, smooth_maps
from robustcls._validation import InputError, check_finite_weights
from robustcls.models.folding import fold_batch_norm
from robustcls.serving.exports.cases import Case
from robustcls.serving.exports.endpoints import Endpoint, Outputs, image_endpoints, images_spec
from robustcls.serving.exports.model_card import ModelCard
from robustcls.serving.exports.samples import Samples, bytes_of, make_samples
from robustcls.serving.exports.servable import Servable, write_export

_USE = (
    "One image in, a score out; images that score above the threshold are unlike the normal "
    "images that the detector has seen.",
    "Images are float32 [N, H, W, C] in [0, 1], or JPEG and PNG files of any size.",
)
_MEANINGS = {
    "score": "higher = more anomalous; comparable within this version alone",
    "is_anomaly": "whether the score lies above the threshold",
    "threshold": "as an input: instead of the detector's own; NaN or left out stands for that",
    "pixel_threshold": "likewise, for the pixels of the smoothed map that make boxes",
    "anomaly_map": "how anomalous each pixel is, ≥ 0",
    "boxes": f"[left, top, right, bottom] in pixels, right and bottom exclusive; the "
    f"{MOST_BOXES} most anomalous of an image, and zeros after the last",
    "box_scores": "the highest value of the smoothed map in each box, 0 after the last",
}
_LIMITS = (
    "The false-alarm rate holds for images like the normal ones that the threshold was taken from.",
    "What the normal images did not show is anomalous, whether it matters or not.",
)


class Exportable(Protocol):
    """What a detector must have to be exported."""

    method: ClassVar[str]
    threshold_names: ClassVar[tuple[str, ...]]
    image_shape: tuple[int, int, int]
    threshold: float
    false_alarm_rate: float

    @property
    def networks(self) -> dict[str, Any]: ...
    def get_config(self) -> dict[str, Any]: ...
    def score_batch(self, images: tf.Tensor) -> tf.Tensor: ...
    def run_batches(self, hook: str, images: Any) -> np.ndarray: ...
    def endpoints(self) -> tuple[Endpoint, ...]: ...
    def cases(self, served: Any, samples: Samples) -> dict[str, Case]: ...


class LocalizingExportable(Exportable, Protocol):
    """What it must have for maps and boxes too."""

    pixel_threshold: float

    def anomaly_map_batch(self, images: tf.Tensor) -> tf.Tensor: ...


def write_detector(
    detector: Exportable,
    out: Path | str,
    *,
    images: np.ndarray,
    name: str,
    version: int | None = None,
    card: dict[str, Any] | None = None,
) -> Path:
    """Writes a fitted detector as the next version in `out`.

    Its signatures are the detector's `endpoints`.

    Args:
        detector: fitted.
        out: the model's folder: version folders, configuration files.
        images: uint8 [N, H, W, C], whose answers are kept with the export for `check_export`.
        name: the detector's name in requests.
        version: its number; None takes the next.
        card: fields of the model card to replace: summary, data, metrics, config.

    Returns:
        The folder of the version.

    Raises:
        InputError: images of another shape, the version exists, or `out` cannot be written.
    """
    with single_precision():
        servable = detector_servable(detector, images, card or {})
        return write_export(servable, out, name=name, version=version)


def detector_servable(
    detector: Exportable, images: np.ndarray, card: Mapping[str, Any]
) -> Servable:
    """Returns what is served of a fitted detector, its batch norms folded.

    Args:
        detector: fitted.
        images: uint8 [N, H, W, C], whose answers are kept with the export for `check_export`.
        card: fields of the model card to replace: summary, data, metrics, config.

    Raises:
        InputError: images of another shape than the detector's, or weights that are not finite.
    """
    for network in detector.networks.values():
        check_finite_weights("detector", network)
    images = bytes_of(images)
    if images.shape[1:] != detector.image_shape:
        raise InputError(
            f"images must be of shape {detector.image_shape}; received {images.shape[1:]}."
        )
    samples = make_samples(images)
    fields = {
        "summary": f"A detector of anomalies, method `{detector.method}`, for images "
        f"{list(detector.image_shape)}. Threshold {detector.threshold:.6g}, for a false-alarm "
        f"rate of {detector.false_alarm_rate:g}.",
        "use": _USE,
        "meanings": _MEANINGS,
        "limits": _LIMITS,
        "config": detector.get_config(),
        **card,
    }
    folded = _folded(detector)
    return Servable(
        endpoints=folded.endpoints(),
        tables=(),
        cases=detector.cases(folded, samples),
        card=ModelCard(**fields),
    )


def score_endpoints(detector: Exportable) -> tuple[Endpoint, ...]:
    """Returns the signatures that every detector has; see `OneClassDetector.endpoints`."""
    images_input = images_spec(detector.image_shape)
    own = tf.constant([float("nan")])
    # Traced once for all signatures.
    score_batch = tf.function(detector.score_batch, autograph=False)

    def detect(images: tf.Tensor, threshold: Any = own) -> Outputs:
        scores = score_batch(images)
        used = _used(threshold, detector.threshold)
        used = tf.broadcast_to(used, tf.shape(scores))
        return {"score": scores, "threshold": used, "is_anomaly": scores > used}

    def serve(images: tf.Tensor) -> Outputs:
        return detect(images, own)

    def score(images: tf.Tensor) -> Outputs:
        return {"score": score_batch(images)}

    threshold_input = tf.TensorSpec([None], tf.float32, "threshold")
    return (
        *image_endpoints(serve, detector.image_shape),
        Endpoint("score", score, (images_input,)),
        Endpoint("detect", detect, (images_input, threshold_input)),
    )


def map_endpoints(detector: LocalizingExportable) -> tuple[Endpoint, ...]:
    """Returns the signatures `anomaly_map` and `boxes`; see `MapDetector.endpoints`."""
    images_input = images_spec(detector.image_shape)
    own = tf.constant([float("nan")])
    anomaly_map_batch = tf.function(detector.anomaly_map_batch, autograph=False)

    def anomaly_map(images: tf.Tensor) -> Outputs:
        return {"anomaly_map": anomaly_map_batch(images)}

    def boxes(images: tf.Tensor, pixel_threshold: Any = own) -> Outputs:
        used = _used(pixel_threshold, detector.pixel_threshold)
        return boxes_of(smooth_maps(anomaly_map_batch(images)), used)

    pixel_input = tf.TensorSpec([None], tf.float32, "pixel_threshold")
    return (
        Endpoint("anomaly_map", anomaly_map, (images_input,)),
        Endpoint("boxes", boxes, (images_input, pixel_input)),
    )


def score_cases(detector: Exportable, samples: Samples) -> dict[str, Case]:
    """Returns what the detector answers to the samples before its export, by signature."""
    scores = detector.run_batches("score_batch", samples.images)
    stored = np.full_like(scores, detector.threshold)
    verdict = {"score": scores, "threshold": stored, "is_anomaly": scores > stored}
    # Every other image against a threshold of its own, which is no image's score: there rounding
    # would decide.
    middle = (len(scores) - 1) // 2
    asked = _every_other(len(scores), np.sort(scores)[middle : middle + 2].mean())
    used = np.where(np.isnan(asked), stored, asked)
    chosen = {"score": scores, "threshold": used, "is_anomaly": scores > used}
    images = {"images": samples.images}
    return {
        "serving_default": Case(images, verdict),
        "serving_bytes": Case({"image_bytes": samples.files}, verdict),
        "decode": Case({"image_bytes": samples.photos}, {"images": samples.read_photos}),
        "score": Case(images, {"score": scores}),
        "detect": Case({**images, "threshold": asked}, chosen),
    }


def map_cases(
    detector: LocalizingExportable, served: LocalizingExportable, samples: Samples
) -> dict[str, Case]:
    """Returns the same of `anomaly_map` and `boxes`.

    The boxes are those of the served one: rounding decides about a pixel at the threshold.
    """
    images = {"images": samples.images}
    maps = smooth(served.run_batches("anomaly_map_batch", samples.images))
    asked = _every_other(len(maps), np.median(maps.max((1, 2))) / 2)
    used = np.where(np.isnan(asked), np.float32(served.pixel_threshold), asked)
    found = [find_boxes(one[None], limit)[0] for one, limit in zip(maps, used, strict=True)]
    own = detector.run_batches("anomaly_map_batch", samples.images)
    return {
        "anomaly_map": Case(images, {"anomaly_map": own}),
        "boxes": Case({**images, "pixel_threshold": asked}, as_arrays(found)),
    }


def _folded(detector: Exportable) -> Any:
    """Returns the same detector with its batch norms folded into the layers before them."""
    folded: Any = copy.deepcopy(detector)
    folded.networks = {key: fold_batch_norm(value) for key, value in detector.networks.items()}
    return folded


def _used(asked: tf.Tensor, own: float) -> tf.Tensor:
    """Returns the thresholds that are asked for, the detector's own where they are NaN."""
    return tf.where(tf.math.is_nan(asked), np.float32(own), asked)


def _every_other(count: int, value: float) -> np.ndarray:
    return np.where(np.arange(count) % 2, np.float32(value), np.float32("nan"))
