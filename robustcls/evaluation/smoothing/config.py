"""All settings of a certification; each is a flag of the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from robustcls._settings import NonNegativeInt, PositiveFloat, PositiveInt, Range, check_settings


@dataclass(frozen=True, kw_only=True)
class SmoothingConfig:
    """How randomized smoothing draws and how sure it is.

    Args:
        sigma: standard deviation of the noise for images in [0, 1] (float > 0, default 0.25).
        samples: noisy copies of an image for its radius (int >= 1, default 1000).
        alpha: chance that an image's certificate is wrong (float in (0, 0.5], default 0.001).
        selection: noisy copies of an image to choose its class by (int >= 1, default 100).
        limit: certify a random subset of at most that many images; all when left out (int >= 1 or
            None, default None).
        batch_size: copies a forward pass; another size draws other noise (int >= 1, default 128).
        seed: seed of the noise and of the subset (int >= 0, default 0).

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
