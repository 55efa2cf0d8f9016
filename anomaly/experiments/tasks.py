"""What a benchmark trains on: each class of a set in turn, or each category of a set of defects."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from anomaly.experiments.config import BenchmarkConfig
from anomaly.experiments.protocol import OneClassSplits, one_class_splits
from robustcls._validation import check_number
from robustcls.data.one_class.layouts import categories, folder_of
from robustcls.data.sources import load
from robustcls.data.splits import Splits


@dataclass(frozen=True, eq=False)
class Task:
    """One normal class.

    Attributes:
        splits: the set that it is of.
        parts: the set seen with this class as normal.
        data: what the set was loaded from.
    """

    splits: Splits
    parts: OneClassSplits
    data: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Tasks:
    """All of a benchmark.

    Attributes:
        names: of all classes or categories; a number is a place in it.
        numbers: those that are measured.
        open: returns one by its number.
        source: where the images came from, in words.
        fingerprint: of all images.
        left_out: what was not read, in words.
    """

    names: tuple[str, ...]
    numbers: tuple[int, ...]
    open: Callable[[int], Task]
    source: str
    fingerprint: str
    left_out: tuple[str, ...]


def tasks_of(config: BenchmarkConfig) -> Tasks:
    """Returns what a benchmark measures.

    `SET:FOLDER` with categories of the set in FOLDER gives one task a category, read when its turn
    comes; everything else one a class.

    Args:
        config: the settings.

    Raises:
        InputError: the images are unusable, or there is no such class.
    """
    below = categories(config.data)
    if below:
        return _of_categories(config, below)
    splits = _load(config, config.data)
    if folder_of(config.data) is not None:
        part = one_class_splits(splits, false_alarm_rate=config.false_alarm_rate)
        numbers: tuple[int, ...] = (part.normal_class,)
        parts = {part.normal_class: part}
    else:
        numbers = tuple(range(splits.num_classes) if config.classes is None else config.classes)
        parts = {
            label: one_class_splits(splits, label, false_alarm_rate=config.false_alarm_rate)
            for label in numbers
        }
    return Tasks(
        names=splits.class_names,
        numbers=numbers,
        open=lambda number: Task(splits, parts[number], config.data),
        source=splits.source,
        fingerprint=splits.fingerprint,
        left_out=splits.left_out,
    )


def _of_categories(config: BenchmarkConfig, below: list[str]) -> Tasks:
    kind, _, root = config.data.partition(":")
    numbers = tuple(range(len(below)) if config.classes is None else config.classes)
    for number in numbers:
        check_number("classes", number, minimum=0, maximum=len(below) - 1, integer=True)

    # The pieces of one seed and method go from category to category: one in memory is enough.
    @lru_cache(maxsize=1)
    def opened(number: int) -> Task:
        data = f"{kind}:{root}/{below[number]}"
        splits = _load(config, data)
        parts = one_class_splits(splits, false_alarm_rate=config.false_alarm_rate)
        return Task(splits, parts, data)

    digest = hashlib.sha256()
    left_out: list[str] = []
    for number in numbers:
        splits = opened(number).splits
        digest.update(f"{below[number]}\0{splits.fingerprint}".encode())
        left_out += splits.left_out
    return Tasks(
        names=tuple(below),
        numbers=numbers,
        open=opened,
        source=f"{len(numbers)} categories of {root}",
        fingerprint=digest.hexdigest(),
        left_out=tuple(left_out),
    )


def _load(config: BenchmarkConfig, data: str) -> Splits:
    given: Mapping[str, Any] = {
        name: getattr(config, name)
        for name in ("image_size", "channels", "skip_bad_images", "data_dir")
    }
    return load(data, one_class=folder_of(data) is not None, **given)
