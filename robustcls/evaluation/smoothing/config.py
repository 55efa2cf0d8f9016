"""All settings of a certification; each is a flag of the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from robustcls._settings import NonNegativeInt, PositiveFloat, PositiveInt, Range, check_settings


@dataclass(frozen=True, kw_only=True)
class SmoothingConfig:
    """How randomized smoothing draws and how sure it is.

    Args:
        sigma: standard deviation of the noise for images in [0, 1].
        samples: noisy copies of an image for its radius.
        alpha: chance that an image's certificate is wrong.
        selection: noisy copies of an image to choose its class by.
        limit: certify a random subset of at most that many images; all when left out.
        batch_size: copies a forward pass; another size draws other noise.
        seed: seed of the noise and of the subset.

    Raises:
        InputError: a setting is unusable.
    """

    sigma: PositiveFloat = 0.25
    samples: PositiveInt = 1000
    alpha: Annotated[float, Range(above=0, maximum=0.5)] = 0.001
    selection: PositiveInt = 100
    limit: PositiveInt | None = None
    batch_size: PositiveInt = 128
    seed: NonNegativeInt = 0

    def __post_init__(self) -> None:
        check_settings(self)
