"""What every fit begins with: the parts of the normal images, and the folder of its traces."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from anomaly.detection.thresholds import hold_out, smallest_sample
from robustcls._validation import InputError
from robustcls.distribution.collectives import ask_chief, on_chief
from robustcls.files import read_sealed
from robustcls.runs import CONFIG, Run, versions

_CHUNK = 256


def training_parts(
    images: np.ndarray,
    validation: np.ndarray | None,
    *,
    false_alarm_rate: float,
    batch_size: int,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the images to train on and those to take the thresholds from.

    Args:
        images: [N, H, W, C], normal.
        validation: [M, H, W, C], other normal images; None takes some of `images`.
        false_alarm_rate: decides how many images the threshold takes at least.
        batch_size: images that there must be to train on.
        seed: of the choice.

    Raises:
        InputError: images that are all alike, or too few of them.
    """
    if all((image == images[0]).all() for image in images):
        raise InputError(f"normal_images must differ; all {len(images)} are the same.")
    if validation is None:
        images, validation = hold_out(images, false_alarm_rate, seed)
    needed = smallest_sample(false_alarm_rate)
    if len(validation) < needed:
        raise InputError(
            f"validation must be at least {needed} normal images for a false-alarm rate "
            f"of {false_alarm_rate:g}; received {len(validation)}."
        )
    if len(images) < batch_size:
        raise InputError(
            f"batch_size must be at most the number of images to train on, {len(images)}; "
            f"received {batch_size}."
        )
    return images, validation


def is_among(others: np.ndarray, images: Iterable[np.ndarray]) -> np.ndarray:
    """Returns bool [M]: which of `others` [M, H, W, C] are, pixel by pixel, also in `images`."""
    known = {hash(image.tobytes()) for image in images}
    return np.array([hash(other.tobytes()) in known for other in others], bool)


def check_anomalies(anomalies: np.ndarray, *normal: np.ndarray) -> None:
    """Raises `InputError` when some of the anomalies are among the normal images."""
    shared = int(is_among(anomalies, chain(*normal)).sum())
    if shared:
        raise InputError(
            f"anomalies must not be among the normal images; {shared} of {len(anomalies)} are."
        )


def kept_settings(folder: Path | str | None) -> Mapping[str, Any] | None:
    """Returns the settings of the fit that `open_fit` began in a folder; None without one."""
    if folder is None:
        return None
    file = Path(folder) / CONFIG
    kept: Mapping[str, Any] | None = ask_chief(
        lambda: read_sealed(file).get("settings") if file.is_file() else None
    )
    return kept


def open_fit(
    folder: Path | str,
    method: str,
    settings: Mapping[str, Any],
    arrays: Iterable[np.ndarray | None],
    *,
    resume: bool,
) -> Path:
    """Makes the folder of a fit, or opens it again for the same settings and images.

    Raises:
        InputError: `folder` exists, or with `resume` holds a fit of other settings or images.
    """
    digest = hashlib.sha256()
    for array in arrays:
        if array is not None:
            digest.update(str(array.shape).encode())
            for start in range(0, len(array), _CHUNK):
                digest.update(np.ascontiguousarray(array[start : start + _CHUNK]).data)
    record = {
        "method": method,
        "settings": dict(settings),
        "images": digest.hexdigest(),
        "versions": versions(),
    }
    on_chief(lambda: Run.create(folder, record, resume=resume))
    return Path(folder)
