"""`Maps`: what a method of explanation says about images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robustcls._notebook import Brief, Briefly


@dataclass(frozen=True, eq=False, repr=False)
class Maps(Briefly):
    """Raw maps, not scaled to any range; those of different images can be compared.

    Attributes:
        positive: float32 [N, H, W] >= 0. What speaks for the class: where a brighter pixel, or
            the pixel as it is, raises its logit.
        negative: float32 [N, H, W] >= 0, what speaks against it; None for methods that do not say
            (default None).
        attribution: the maps share a sum out among the pixels (integrated gradients), so that what
            speaks against the class is least relevant; else they say how sensitive the logit is, in
            either direction (bool, default False).
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
