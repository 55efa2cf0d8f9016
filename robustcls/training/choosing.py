"""Settings that a training was not given, by its weights and its number of images."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from robustcls.data.sources import sensible_side
from robustcls.training.config import TrainConfig

#: From so many training images on, the settings are those of large sets.
MANY = 2000
#: Steps that a training on few images makes at least, from given and from random weights.
FINE_TUNING_STEPS, STEPS = 120, 700
#: But no more passes than this over a handful.
MOST_EPOCHS = 100
_LARGE_SET = {
    "epochs": 10,
    "batch_size": 128,
    "optimizer.learning_rate": 0.02,
    "unfreezing.patience": 0,
    "unfreezing.blocks_at_start": 1,
}


def choose(config: TrainConfig, count: int) -> tuple[TrainConfig, str]:
    """Fills in what a configuration leaves out; what it sets stays.

    Few images make few steps: batches become smaller and epochs more. Given weights are trained at
    a small rate. All layers train, also then: on validation images of three small sets
    (benchmarks/small_sets.py) that had the lowest loss on average, and opening the network from the
    top a higher one.

    Args:
        config: the settings; None where something is to be chosen.
        count: training images.

    Returns:
        The settings without a None that stands for a choice, and what was chosen and why in one
        line; "" when nothing was.
    """
    wanted = _LARGE_SET if count >= MANY else _few_images(config, count)
    # Blocks belong to the patience that they were chosen with.
    if config.unfreezing.patience is not None:
        wanted = {**wanted, "unfreezing.blocks_at_start": 1}
    chosen = {name: value for name, value in wanted.items() if _get(config, name) is None}
    if not chosen:
        return config, ""
    given = "random" if config.model.weights is None else "given"
    config = _replaced(config, chosen)
    if not config.unfreezing.patience:
        chosen.pop("unfreezing.blocks_at_start", None)  # which then says nothing
    words = ", ".join(f"{name} {value:g}" for name, value in chosen.items())
    return config, words and f"Chosen for {count:,} images and {given} weights: {words}."


def choose_side(config: TrainConfig) -> tuple[TrainConfig, str]:
    """Chooses the size of the images where a folder has large ones or several sizes.

    Args:
        config: the settings; an `image_size` or a `resize_to` in them stays.

    Returns:
        The settings, and what was chosen and why in one line; "" when nothing was.

    Raises:
        InputError: the images are an unusable folder.
    """
    if config.data.image_size is not None or config.model.resize_to is not None:
        return config, ""
    side, words = sensible_side(config.data.name)
    return _replaced(config, {} if side is None else {"data.image_size": side}), words


def small_batch(count: int) -> int:
    """Returns how many of `count` images make a batch: 64 of many, else an eighth, 16 at least."""
    return max(2, min(64, max(16, count // 8), count // 2))


def fill(config: TrainConfig, kept: Mapping[str, Any]) -> TrainConfig:
    """Takes what a configuration leaves out from the settings that a run has kept.

    Args:
        config: the settings; None where something is to be chosen.
        kept: what `TrainConfig.to_dict` returned for the run.
    """
    found = {}
    for name in (*_LARGE_SET, "data.image_size"):
        value: Any = kept
        for part in name.split("."):
            value = (value or {}).get(part)
        if value is not None and _get(config, name) is None:
            found[name] = value
    return _replaced(config, found)


def _few_images(config: TrainConfig, count: int) -> dict[str, Any]:
    batch_size = config.batch_size or small_batch(count)
    steps = max(1, count // batch_size)
    fine_tuning = config.model.weights is not None
    epochs = math.ceil((FINE_TUNING_STEPS if fine_tuning else STEPS) / steps)
    return {
        "epochs": min(max(10, epochs), MOST_EPOCHS),
        "batch_size": batch_size,
        "optimizer.learning_rate": 0.002 if fine_tuning else 0.01,
        "unfreezing.patience": 0,
        "unfreezing.blocks_at_start": 1,
    }


def _get(config: TrainConfig, name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _replaced(config: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    for name, value in values.items():
        *parts, last = name.split(".")
        if parts:
            inner = dataclasses.replace(getattr(config, parts[0]), **{last: value})
            config = dataclasses.replace(config, **{parts[0]: inner})
        else:
            config = dataclasses.replace(config, **{last: value})
    return config
