"""A detector as a SavedModel for TensorFlow Serving."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from anomaly.detection.reconstruction import ReconstructionDetector
from anomaly.localization.boxes import find_boxes, smooth
from anomaly.localization.graph import MOST_BOXES, as_arrays, boxes_of, smooth_maps
from robustcls._validation import InputError
from robustcls.models.folding import fold_batch_norm
from robustcls.serving.exports.cases import Case
from robustcls.serving.exports.endpoints import Endpoint, Outputs, image_endpoints, images_spec
from robustcls.serving.exports.model_card import ModelCard
from robustcls.serving.exports.samples import Samples, make_samples
from robustcls.serving.exports.servable import Servable, write_export

if TYPE_CHECKING:
    from anomaly.detection.detector import OneClassDetector

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


def write_detector(
    detector: OneClassDetector,
    out: Path | str,
    *,
    images: np.ndarray,
    name: str,
    version: int | None = None,
    card: dict[str, Any] | None = None,
) -> Path:
    """Writes a fitted detector as the next version in `out`.

    Signatures: `serving_default` and `serving_bytes` (score and verdict), `score`, `detect` (with
    an optional `threshold`), `decode`, and `anomaly_map` and `boxes` where the detector
    reconstructs.

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
    servable = detector_servable(detector, images, card or {})
    return write_export(servable, out, name=name, version=version)


def detector_servable(
    detector: OneClassDetector, images: np.ndarray, card: Mapping[str, Any]
) -> Servable:
    """Returns what is served of a fitted detector, its batch norms folded.

    Args:
        detector: fitted.
        images: uint8 [N, H, W, C], whose answers are kept with the export for `check_export`.
        card: fields of the model card to replace: summary, data, metrics, config.

    Raises:
        InputError: images of another shape than the detector's.
    """
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
        endpoints=_endpoints(folded),
        tables=(),
        cases=_cases(detector, folded, samples),
        card=ModelCard(**fields),
    )


def _folded(detector: OneClassDetector) -> OneClassDetector:
    """Returns the same detector with its batch norms folded into the layers before them."""
    folded = type(detector).from_config(detector.get_config())
    folded._set({key: fold_batch_norm(value) for key, value in detector._networks.items()})
    for name in detector._thresholds:
        setattr(folded, name, getattr(detector, name))
    return folded


def _endpoints(detector: OneClassDetector) -> tuple[Endpoint, ...]:
    images_input = images_spec(detector.image_shape)
    own = tf.constant([float("nan")])

    def detect(images: tf.Tensor, threshold: Any = own) -> Outputs:
        scores = detector._score(images)
        stored = np.float32(detector.threshold)
        used = tf.where(tf.math.is_nan(threshold), stored, threshold)
        used = tf.broadcast_to(used, tf.shape(scores))
        return {"score": scores, "threshold": used, "is_anomaly": scores > used}

    def serve(images: tf.Tensor) -> Outputs:
        return detect(images, own)

    def score(images: tf.Tensor) -> Outputs:
        return {"score": detector._score(images)}

    threshold_input = tf.TensorSpec([None], tf.float32, "threshold")
    endpoints = (
        *image_endpoints(serve, detector.image_shape),
        Endpoint("score", score, (images_input,)),
        Endpoint("detect", detect, (images_input, threshold_input)),
    )
    if not isinstance(detector, ReconstructionDetector):
        return endpoints

    def anomaly_map(images: tf.Tensor) -> Outputs:
        return {"anomaly_map": detector._anomaly_map(images)}

    def boxes(images: tf.Tensor, pixel_threshold: Any = own) -> Outputs:
        stored = np.float32(detector.pixel_threshold)
        used = tf.where(tf.math.is_nan(pixel_threshold), stored, pixel_threshold)
        return boxes_of(smooth_maps(detector._anomaly_map(images)), used)

    pixel_input = tf.TensorSpec([None], tf.float32, "pixel_threshold")

    return (
        *endpoints,
        Endpoint("anomaly_map", anomaly_map, (images_input,)),
        Endpoint("boxes", boxes, (images_input, pixel_input)),
    )


def _cases(
    detector: OneClassDetector, folded: OneClassDetector, samples: Samples
) -> dict[str, Case]:
    """What the detector answers to the samples before its export.

    The boxes are those of the folded one: rounding decides about a pixel at the threshold.
    """
    scores = detector.score(samples.images)
    stored = np.full_like(scores, detector.threshold)
    verdict = {"score": scores, "threshold": stored, "is_anomaly": scores > stored}
    # Every other image against a threshold of its own, which is no image's score: there rounding
    # would decide.
    middle = (len(scores) - 1) // 2
    between = np.float32(np.sort(scores)[middle : middle + 2].mean())
    asked = np.where(np.arange(len(scores)) % 2, between, np.float32("nan"))
    used = np.where(np.isnan(asked), stored, asked).astype(np.float32)
    chosen = {"score": scores, "threshold": used, "is_anomaly": scores > used}
    images = {"images": samples.images}
    cases = {
        "serving_default": Case(images, verdict),
        "serving_bytes": Case({"image_bytes": samples.files}, verdict),
        "decode": Case({"image_bytes": samples.photos}, {"images": samples.read_photos}),
        "score": Case(images, {"score": scores}),
        "detect": Case({**images, "threshold": asked.astype(np.float32)}, chosen),
    }
    if isinstance(detector, ReconstructionDetector):
        maps = detector.anomaly_map(samples.images)
        cases["anomaly_map"] = Case(images, {"anomaly_map": maps})
    if isinstance(folded, ReconstructionDetector):
        maps = smooth(folded.anomaly_map(samples.images))
        asked = np.where(asked == asked, np.float32(np.median(maps.max((1, 2))) / 2), asked)
        used = np.where(np.isnan(asked), np.float32(folded.pixel_threshold), asked)
        found = [find_boxes(one[None], limit)[0] for one, limit in zip(maps, used, strict=True)]
        inputs = {**images, "pixel_threshold": asked.astype(np.float32)}
        cases["boxes"] = Case(inputs, as_arrays(found))
    return cases
