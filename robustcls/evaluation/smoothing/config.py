"""All settings of a certification; each is a flag of the command line."""

from __future__ import annotations

from dataclasses import dataclass

from robustcls._validation import check_number


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

    sigma: float = 0.25
    samples: int = 1000
    alpha: float = 0.001
    selection: int = 100
    limit: int | None = None
    batch_size: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        check_number("sigma", self.sigma, above=0)
        check_number("alpha", self.alpha, above=0, maximum=0.5)
        for name in ("samples", "selection", "batch_size"):
            check_number(name, getattr(self, name), minimum=1, integer=True)
        check_number("seed", self.seed, minimum=0, integer=True)
        if self.limit is not None:
            check_number("limit", self.limit, minimum=1, integer=True)
