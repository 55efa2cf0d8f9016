"""Accuracy of one model under the corruptions of the benchmarks, made on the fly."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Annotated, Any

import numpy as np
import tensorflow as tf

from robustcls._progress import tqdm
from robustcls._settings import Choice, NonNegativeInt, PositiveInt, checked
from robustcls._validation import InputError, check_choice
from robustcls.data.splits import Split
from robustcls.evaluation.corruptions.corruption import NOISE_CORRUPTIONS, SEVERITIES, apply
from robustcls.evaluation.corruptions.registry import CORRUPTIONS, PUBLISHED
from robustcls.evaluation.corruptions.report import (
    ALL_SEVERITIES,
    CorruptionReport,
    check_severities,
)
from robustcls.evaluation.evaluator import Evaluator
from robustcls.evaluation.prediction import Change, prepared, subset


@checked
def evaluate_corruptions(
    model: Any,
    data: Split | tuple[np.ndarray, np.ndarray],
    *,
    scale: Annotated[str, Choice(SEVERITIES)] = "cifar_c",
    names: Collection[str] | None = None,
    severities: Sequence[int] = ALL_SEVERITIES,
    limit: PositiveInt | None = None,
    batch_size: PositiveInt = 128,
    seed: NonNegativeInt = 0,
    trained_on: Collection[str] = (),
    progress: bool = False,
) -> CorruptionReport:
    """Measures accuracy under each corruption at each severity.

    Args:
        model: a Keras classifier, float32 images [N, H, W, C] in [0, 1] to
            logits [N, classes], or what `attacks.adapt` takes or returns.
        data: a split, or (images float32 [N, H, W, C] in [0, 1], labels int [N]).
        scale: whose severities ("cifar_c",
            "tiny_imagenet_c" or "imagenet_c", default "cifar_c").
        names: the corruptions, of `corruptions.CORRUPTIONS`; None takes those of the benchmarks,
            `PUBLISHED` (default None).
        severities: of each corruption, 1 to 5 (default (1, 2, 3, 4, 5)).
        limit: corrupt a random subset of at most that many images; None corrupts all (int >= 1 or
            None, default None).
        batch_size: images corrupted and seen by the model at a time. Draws are made for whole
            batches, so another size draws others (int >= 1, default 128).
        seed: of the corruptions and of the subset (int >= 0, default 0).
        trained_on: what training used, to be marked: corruptions, or noises by their names in
            `AugmentationPolicy` (default ()).
        progress: show a progress bar (bool, default False).

    Returns:
        The report. It leaves `saturate` out for images with one channel.

    Raises:
        InputError: the model, the data or a setting is unusable.
    """
    if names is None:
        names = PUBLISHED
    names = list(dict.fromkeys(names))
    for name in names:
        check_choice("names", name, CORRUPTIONS)
    severities = check_severities(severities)
    trained = published_names(trained_on)
    classifier, images, labels = prepared(model, data)
    left_out = {}
    if images.shape[-1] == 1 and "saturate" in names:
        names.remove("saturate")
        left_out["saturate"] = "images with one channel have no saturation"
    if not names:
        raise InputError("names must hold a corruption that these images can have; received none.")
    evaluator = Evaluator(classifier, images, labels, batch_size=batch_size)
    places = subset(len(images), limit, seed)

    def accuracy(name: str, change: Change | None = None) -> float:
        return evaluator.changed(name, change, places).measurement.accuracy

    clean = accuracy("clean")
    return CorruptionReport(
        scale=scale,
        severities=severities,
        accuracies=measure_cells(
            lambda name, severity: accuracy(name, _corruption(name, severity, scale, seed)),
            names,
            severities,
            title=scale,
            progress=progress,
        ),
        count=len(places),
        clean=clean,
        trained_on=tuple(name for name in names if name in trained),
        left_out=left_out,
        seed=seed,
    )


def named_corruptions(words: str, scale: str) -> tuple[str, list[str] | None] | None:
    """Returns the scale and the corruptions that a list of names asks for.

    Args:
        words: names of `CORRUPTIONS`, and at most one scale, which stands for all the published
            ones; separated by commas.
        scale: whose severities, where the list names none.

    Returns:
        (scale, names), the names None when a scale stands alone; None when the first name is
        none, as that of a folder.

    Raises:
        InputError: the list names two scales, or something that is neither.
    """
    parts = list(dict.fromkeys(part.strip() for part in words.split(",") if part.strip()))
    if not parts or parts[0] not in {*SEVERITIES, *CORRUPTIONS}:
        return None
    for part in parts:
        check_choice("corruptions", part, [*SEVERITIES, *CORRUPTIONS])
    scales = [part for part in parts if part in SEVERITIES]
    if len(scales) > 1:
        raise InputError(f"corruptions must be of one scale; received {' and '.join(scales)}.")
    names = [part for part in parts if part in CORRUPTIONS]
    if not scales:
        return scale, names
    if names:
        names = [*PUBLISHED, *names]
    return scales[0], names or None


def measure_cells(
    accuracy: Callable[[str, int], float],
    names: Iterable[str],
    severities: Sequence[int],
    *,
    title: str,
    progress: bool,
) -> dict[str, tuple[float, ...]]:
    """Returns by corruption `accuracy(name, severity)` at each severity."""
    accuracies: dict[str, tuple[float, ...]] = dict.fromkeys(names, ())
    cells = [(name, severity) for name in accuracies for severity in severities]
    for name, severity in tqdm(
        cells, desc=f"corruptions of {title}", unit="cell", disable=not progress, leave=False
    ):
        accuracies[name] += (accuracy(name, severity),)
    return accuracies


def published_names(trained_on: Collection[str]) -> set[str]:
    """Returns corruptions and noises by their published names.

    Raises:
        InputError: one is neither.
    """
    known = {**{name: name for name in CORRUPTIONS}, **NOISE_CORRUPTIONS}
    return {known[check_choice("trained_on", name, known)] for name in trained_on}


def _corruption(name: str, severity: int, scale: str, seed: int) -> Change:
    strength = SEVERITIES[scale][name][severity - 1]

    def change(images: np.ndarray, number: int) -> tf.Tensor:
        # Severities and corruptions draw apart, so that their mean is over independent draws.
        parts = [seed, zlib.crc32(name.encode()), severity, number]
        pair = np.random.SeedSequence(parts).generate_state(2).view(np.int32)
        return apply(name, images, strength, pair)

    return change
