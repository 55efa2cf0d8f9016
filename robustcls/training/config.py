"""All settings of a training run; each is a YAML key and a command-line flag."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

from robustcls._settings import (
    Choice,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Radius,
    Range,
    UnitFloat,
    check_settings,
)
from robustcls._validation import InputError, check_choice
from robustcls.training.objectives.registry import OBJECTIVES

MODELS = ("base", "adversarial")

Dropout = Annotated[float, Range(minimum=0, below=1)]
GradNorm = Annotated[str, Choice(("infinity", "l2", "l1"))]
StepSize = Annotated[float, Radius(norm="grad_norm")]
Decay = Annotated[float, Range(above=0, below=1)]


class _Trainable:
    """What `models` may name; objectives of users are added when they are defined."""

    def __iter__(self) -> Iterator[str]:
        yield from MODELS
        yield from OBJECTIVES


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the images come from.

    Args:
        name: an embedded set, a TFDS name or an image folder (str, default "fashion_mnist_mini").
        image_size: side in pixels that images are resized to; null keeps theirs, and chooses one
            for a folder of several sizes or of sides above 224 (int >= 1 or None, default None).
        channels: 1 gray, 3 colour; null keeps theirs (int or None, default None).
        skip_bad_images: leave unreadable files out and list them (bool, default False).
        data_dir: where TFDS keeps prepared sets; null is its default (str or None, default None).
        memory: GiB that the decoded images of a split may take; a larger split of a folder or a
            TFDS set is decoded image by image as batches ask for it. null is 4, and what is larger
            is decoded once, on the cache disk (float > 0 or None, default None).
    """

    name: str = "fashion_mnist_mini"
    image_size: PositiveInt | None = None
    channels: int | None = None
    skip_bad_images: bool = False
    data_dir: str | None = None
    memory: PositiveFloat | None = None

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network; see `robustcls.build_classifier`.

    Args:
        backbone: for example mobilenet_v2 (str, default "mobilenet_v2").
        weights: null (random), "imagenet" or a file (str or None, default None).
        alpha: width of MobileNetV2 (float > 0, default 1.0).
        output_stride: input size over last feature map; null chooses by input size (int or None,
            default None).
        resize_to: side in pixels that the model's first layer resizes to; null does not (int >= 1
            or None, default None).
        dropout: share of features dropped before the head while training (float in [0, 1), default
            0.0).
    """

    backbone: str = "mobilenet_v2"
    weights: str | None = None
    alpha: PositiveFloat = 1.0
    output_stride: int | None = None
    resize_to: PositiveInt | None = None
    dropout: Dropout = 0.0

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig:
    """The adversarial term; see `robustcls.AdversarialRegularization`.

    Args:
        multiplier: weight of the adversarial loss (float >= 0, default 0.2).
        step_size: length of a step for images in [0, 1] (float in (0, 1], default 8/255).
        grad_norm: infinity, l2 or l1 ("infinity", "l2" or "l1", default "infinity").
        iterations: steps to an adversarial neighbour (int >= 1, default 1).
        epsilon: radius that neighbours are projected to; null does not project (float in (0, 1] or
            None, default None).
        random_start: begin at a random point of the ball, which needs epsilon (bool, default
            False).
        clip: keep neighbours in [0, 1] (bool, default True).
    """

    multiplier: NonNegativeFloat = 0.2
    step_size: StepSize = 8 / 255
    grad_norm: GradNorm = "infinity"
    iterations: PositiveInt = 1
    epsilon: StepSize | None = None
    random_start: bool = False
    clip: bool = True

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """SGD with Nesterov momentum and a cosine learning rate.

    Args:
        learning_rate: the highest rate, reached after the warm-up; left out, chosen (float > 0 or
            None, default None).
        momentum: of SGD (float in [0, 1], default 0.9).
        warmup: share of all steps in which the rate rises from 0 (float in [0, 1], default 0.1).
        weight_decay: decoupled weight decay of each step; 0 is none (float >= 0, default 0.0).
    """

    learning_rate: PositiveFloat | None = None
    momentum: UnitFloat = 0.9
    warmup: UnitFloat = 0.1
    weight_decay: NonNegativeFloat = 0.0

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class UnfreezingConfig:
    """Training from the head downward; see `robustcls.PlateauUnfreezing`.

    Args:
        patience: epochs without improvement before a block opens; 0 trains all from the start;
            left out, chosen (int >= 0 or None, default None).
        min_delta: improvement that counts, as a share of the best loss (float in [0, 1], default
            0.01).
        blocks_at_start: blocks that are open from the beginning; left out, chosen (int >= 1 or
            None, default None).
    """

    patience: NonNegativeInt | None = None
    min_delta: UnitFloat = 0.01
    blocks_at_start: PositiveInt | None = None

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run: a reference model and its robust twins.

    Of the settings that are left out, those of the optimizer, the unfreezing, the epochs and the
    batches are chosen by the number of training images and by whether weights are given; see
    `robustcls.training.choosing`.

    Args:
        data: the images.
        model: the network, the same for both.
        augmentation: arguments of `robustcls.AugmentationPolicy`; null augments nothing.
        adversarial: the twin's adversarial term.
        optimizer: the optimizer, the same for both.
        unfreezing: training from the head downward.
        epochs: epochs of each model; left out, chosen (int >= 1 or None, default None).
        batch_size: images a step; left out, chosen (int >= 2 or None, default None).
        seed: seed of weights, order, augmentation and random starts (int >= 0, default 0).
        models: which to train: base, adversarial, or objectives by name: nsl, pgd, fgsm_rs,
            n_fgsm, free, trades, mart, noise, augmix, ibp, crown_ibp (str, default ("base",
            "adversarial")).
        objectives: settings of objectives by name, for example {trades: {beta: 6}}.
        average_decay: of the moving average of the weights that becomes the model, .99 to .9999;
            null averages nothing (float in (0, 1) or None, default None).
        watch_images: validation images that PGD attacks after each epoch of an objective with an
            epsilon; training stops when their accuracy collapses. 0 watches none (int >= 0, default
            256).
    """

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    augmentation: dict[str, Any] | None = field(default_factory=dict)
    adversarial: AdversarialConfig = field(default_factory=AdversarialConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    unfreezing: UnfreezingConfig = field(default_factory=UnfreezingConfig)
    epochs: PositiveInt | None = None
    batch_size: Annotated[int, Range(minimum=2)] | None = None
    seed: NonNegativeInt = 0
    models: tuple[Annotated[str, Choice(_Trainable())], ...] = MODELS
    objectives: dict[str, dict[str, Any]] = field(default_factory=dict)
    average_decay: Decay | None = None
    watch_images: NonNegativeInt = 256

    def __post_init__(self) -> None:
        check_settings(self)
        if not self.models:
            known = ", ".join(_Trainable())
            raise InputError(f"models must be one or more of {known}; received none.")
        for name in self.objectives:
            check_choice("objectives", name, OBJECTIVES)

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON-serializable dictionaries.

        What version 0.1 did not know is left out at its default, so that its runs go on.
        """
        settings = dataclasses.asdict(self)
        for name, default in (("objectives", {}), ("average_decay", None), ("watch_images", 256)):
            if settings[name] == default:
                del settings[name]
        return settings
