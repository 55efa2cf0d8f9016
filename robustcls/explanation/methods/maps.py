"""`Maps`: what a method of explanation says about images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from robustcls._notebook import Brief, Briefly
from robustcls._validation import InputError


@dataclass(frozen=True, eq=False, repr=False)
class Maps(Briefly):
    """Raw maps, not scaled to any range; those of different images can be compared.

    Attributes:
        positive: float32 [N, H, W] >= 0. What speaks for the class: where a brighter pixel, or
            the pixel as it is, raises its logit.
        negative: float32 [N, H, W] >= 0, what speaks against it; None for methods that do not say
            (default None).
        attribution: the maps share the difference from a black image out among the pixels, as
            integrated gradients do, so that what speaks against the class is least relevant; else
            they say how sensitive the logit is, in either direction (bool, default False).
        resolution: (h, w) of the feature map that the maps were enlarged from; None when every
            pixel has a value of its own (default None).
    """

    positive: np.ndarray
    negative: np.ndarray | None = None
    attribution: bool = False
    resolution: tuple[int, int] | None = None

    def brief(self) -> Brief:
        count, height, width = self.positive.shape
        signs = "" if self.negative is None else ", for and against"
        return Brief(f"{count:,} maps of {width} x {height}{signs}")

    def __len__(self) -> int:
        return len(self.positive)

    @classmethod
    def of_signed(
        cls,
        signed: np.ndarray,
        *,
        attribution: bool = False,
        resolution: tuple[int, int] | None = None,
    ) -> Maps:
        """Returns maps of what speaks for the class, above 0, and against it, below.

        Args:
            signed: float32 [N, H, W].
            attribution: see the attributes (bool, default False).
            resolution: see the attributes (default None).
        """
        return cls(np.maximum(signed, 0), np.maximum(-signed, 0), attribution, resolution)

    @property
    def planes(self) -> list[np.ndarray]:
        """`positive`, and `negative` where there is one."""
        return [self.positive] if self.negative is None else [self.positive, self.negative]

    @property
    def signed(self) -> np.ndarray:
        """float32 [N, H, W], for minus against."""
        return self.positive if self.negative is None else self.positive - self.negative

    @property
    def relevance(self) -> np.ndarray:
        """float32 [N, H, W], by which pixels are ranked."""
        if self.negative is None or self.attribution:
            return self.signed
        return np.maximum(self.positive, self.negative)

    @property
    def size(self) -> np.ndarray:
        """float32 [N], the largest value of either sign, where a common scale has its end."""
        highest = self.positive.max(axis=(1, 2))
        if self.negative is None:
            return highest
        return np.maximum(highest, self.negative.max(axis=(1, 2)))


def check_maps(name: str, maps: Any, images: np.ndarray) -> Maps:
    """Returns what a method found when it is maps, one for each image.

    Args:
        name: of the method.
        maps: what it returned.
        images: float32 [N, H, W, C] that it was given.

    Raises:
        InputError: it is something else, or of another shape, or not finite and >= 0.
    """
    shape = images.shape[:3]
    if not isinstance(maps, Maps) or any(plane.shape != shape for plane in maps.planes):
        came = [plane.shape for plane in maps.planes] if isinstance(maps, Maps) else type(maps)
        raise InputError(f"method '{name}' must return Maps of shape {shape}; received {came}.")
    if any(not (np.isfinite(plane).all() and plane.min() >= 0) for plane in maps.planes):
        raise InputError(f"method '{name}' must return Maps of finite values >= 0.")
    return maps
