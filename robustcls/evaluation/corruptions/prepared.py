"""Accuracy of one model on corrupted images that come as files, in the format of CIFAR-10-C."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robustcls._settings import NonNegativeInt, PositiveInt, checked
from robustcls._validation import InputError, check_choice, check_labels
from robustcls.classifiers.adapters import classifier_of
from robustcls.evaluation.corruptions.evaluation import measure_cells, published_names
from robustcls.evaluation.corruptions.report import (
    ALL_SEVERITIES,
    CorruptionReport,
    check_severities,
)
from robustcls.evaluation.prediction import predict, prepare, subset

_LABELS = "labels"


@checked
def evaluate_corruption_folder(
    model: Any,
    folder: Path | str,
    *,
    names: Collection[str] | None = None,
    severities: Sequence[int] = ALL_SEVERITIES,
    limit: PositiveInt | None = None,
    batch_size: PositiveInt = 128,
    seed: NonNegativeInt = 0,
    trained_on: Collection[str] = (),
    progress: bool = False,
) -> CorruptionReport:
    """Measures accuracy on prepared images in the format of CIFAR-10-C.

    Args:
        model: a Keras classifier, float32 images [N, H, W, C] in [0, 1] to logits [N, classes],
            or what `attacks.adapt` takes or returns.
        folder: holds `labels.npy`, integers [N] or [5 N], and a file for each corruption,
            `fog.npy` and the like: uint8 [5 N, H, W, C], the N images at severity 1, then at
            severity 2 and so on. Files are read piece by piece.
        names: file names without `.npy`; None takes all (default None).
        severities: 1 to 5 (default (1, 2, 3, 4, 5)).
        limit: evaluate a random subset of at most that many of the N images; None takes all (int >=
            1 or None, default None).
        batch_size: images the model sees at a time; the result does not depend on it (int >= 1,
            default 128).
        seed: of the subset (int >= 0, default 0).
        trained_on: what training used, to be marked: corruptions, or noises by their names in
            `AugmentationPolicy` (default ()).
        progress: show a progress bar (bool, default False).

    Raises:
        InputError: a file is missing, damaged or of another shape, or does not fit the model.
    """
    folder = Path(folder)
    severities = check_severities(severities)
    trained = published_names(trained_on)
    files = _open_folder(folder, names)
    first = next(iter(files.values()))
    count = len(first) // len(ALL_SEVERITIES)
    classifier = classifier_of(model)
    labels = _open_labels(folder / f"{_LABELS}.npy", count, prepare(classifier, first))
    places = subset(count, limit, seed)

    def accuracy(name: str, severity: int) -> float:
        block = files[name][(severity - 1) * count : severity * count]
        logits = predict(classifier, block, places, batch_size=batch_size)
        return float((logits.argmax(axis=1) == labels[places]).mean())

    return CorruptionReport(
        scale=folder.resolve().name,
        severities=severities,
        accuracies=measure_cells(accuracy, files, severities, title=folder.name, progress=progress),
        count=len(places),
        trained_on=tuple(name for name in files if name in trained),
    )


def _open_folder(folder: Path, names: Collection[str] | None) -> dict[str, np.ndarray]:
    """Returns the images by corruption, all of one shape."""
    if not folder.is_dir():
        raise InputError(f"folder must hold labels.npy and images; {folder} is no folder.")
    present = sorted(path.stem for path in folder.glob("*.npy"))
    if _LABELS not in present:
        raise InputError(f"folder must hold labels.npy; {folder} holds none.")
    present.remove(_LABELS)
    if not present:
        raise InputError(f"folder must hold images, for example fog.npy; {folder} holds none.")
    chosen = present if names is None else list(dict.fromkeys(names))
    if not chosen:
        raise InputError("names must be one or more corruptions; received none.")
    files: dict[str, np.ndarray] = {}
    for name in chosen:
        files[name] = _open_images(folder / f"{check_choice('names', name, present)}.npy")
        if files[name].shape != files[chosen[0]].shape:
            raise InputError(
                f"folder must hold images of one shape; {chosen[0]}.npy is "
                f"{files[chosen[0]].shape}, {name}.npy is {files[name].shape}."
            )
    return files


def _open_images(path: Path) -> np.ndarray:
    images = _open(path)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise InputError(
            f"{path} must be uint8 [5 N, H, W, C] with 1 or 3 channels; "
            f"received {images.dtype} of shape {images.shape}."
        )
    if len(images) == 0 or len(images) % len(ALL_SEVERITIES):
        raise InputError(
            f"{path} must hold as many images for each of five severities; "
            f"received {len(images)} images."
        )
    return images


def _open_labels(path: Path, count: int, num_classes: int) -> np.ndarray:
    labels = np.asarray(_open(path))
    repeats = len(ALL_SEVERITIES)
    if labels.shape == (repeats * count,):
        parts = labels.reshape(repeats, count)
        if (parts != parts[0]).any():
            raise InputError(f"{path} must repeat the same labels for each of five severities.")
        labels = parts[0]
    return check_labels(labels, count, num_classes, argument=str(path))


def _open(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path} must be a NumPy array file; {reason}") from None
