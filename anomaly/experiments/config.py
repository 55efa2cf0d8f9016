"""All settings of a training and of a benchmark; each is a YAML key and a command-line flag."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from robustcls._settings import NonNegativeInt, PositiveInt, Rate, UnitFloat, check_settings


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """One method trained on the normal images of one class.

    Args:
        method: the detector, for example autoencoder (str, default patch_memory).
        data: an embedded set, a TFDS name or an image folder, also one of normal images alone or
            in the layout of MVTec AD, LOCO, AD 2, VisA or UCSD, also written as SET:FOLDER.
        normal_class: the class to learn, by its number or its name; all others are anomalies. Left
            out, the only class of the training images (int or str, default None).
        image_size: side in pixels that images are resized to; null keeps theirs, and chooses one
            for a folder of several sizes or of large images (int >= 1 or None, default None).
        channels: 1 gray, 3 colour; null keeps theirs (int or None, default None).
        skip_bad_images: leave unreadable files out and list them (bool, default False).
        data_dir: where TFDS keeps prepared sets; null is its default (str or None, default None).
        epochs: passes over the normal images; null is the method's own (int >= 1 or None, default
            None).
        false_alarm_rate: share of normal images that may be called anomalies (float in (0, 1),
            default 0.05).
        labelled_anomalies: known anomalies for methods that take some, as a share of the normal
            training images, of one other class (float in [0, 1], default 0).
        seed: seed of weights, order, augmentation and the held-out images (int >= 0, default 0).
        augmentation: arguments of `robustcls.AugmentationPolicy`; null augments nothing (default
            None).
        settings: what else the method's class takes, for example learning_rate.
    """

    method: str = "patch_memory"
    data: str
    normal_class: int | str | None = None
    image_size: PositiveInt | None = None
    channels: int | None = None
    skip_bad_images: bool = False
    data_dir: str | None = None
    epochs: PositiveInt | None = None
    false_alarm_rate: Rate = 0.05
    labelled_anomalies: UnitFloat = 0
    seed: NonNegativeInt = 0
    augmentation: dict[str, Any] | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_settings(self)

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON-serializable dictionaries."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """All settings of a benchmark; each is a YAML key and a command-line flag.

    Args:
        data: an embedded set, a TFDS name or an image folder, each class of which is the normal one
            in turn; or SET:FOLDER, SET being mvtec, loco, ad2, visa or ucsd, of one category or of
            a folder of categories, with its own normal images, anomalies and masks.
        methods: entries like memae, each trained on each class with each seed.
        classes: the normal classes or categories by number; null takes all (default None).
        seeds: how many, from 0 on (int >= 1, default 3).
        epochs: passes over the normal images; null is each method's own (int >= 1 or None, default
            None).
        false_alarm_rate: share of normal images that may be called anomalies (float in (0, 1),
            default 0.05).
        labelled_anomalies: known anomalies for methods made for them, such as deep_sad, as a
            share of the normal training images, of one other class (float in [0, 1], default 0.05).
        oracle: after every epoch, score test images for the oracle's best, which nothing uses
            (bool, default True).
        image_size: side in pixels that images are resized to; null keeps theirs (int >= 1 or None,
            default None).
        channels: 1 gray, 3 colour; null keeps theirs (int or None, default None).
        skip_bad_images: leave unreadable files out and list them (bool, default False).
        data_dir: where TFDS keeps prepared sets; null is its default (str or None, default None).
        settings: by method, what its class takes, for example {memae: {items: 50}}; a key like
            memae@control makes a second row of a method under that name (default None).
    """

    data: str
    methods: list[str]
    classes: list[int] | None = None
    seeds: PositiveInt = 3
    epochs: PositiveInt | None = None
    false_alarm_rate: Rate = 0.05
    labelled_anomalies: UnitFloat = 0.05
    oracle: bool = True
    image_size: PositiveInt | None = None
    channels: int | None = None
    skip_bad_images: bool = False
    data_dir: str | None = None
    settings: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        check_settings(self)
