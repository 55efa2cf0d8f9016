"""What a detector has to show of images, for reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from anomaly.localization.boxes import Box


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageView:
    """What a detector sees in images.

    Attributes:
        pictures: float32 [N, H, W, 1 or 3] by name, drawn below the images; one called "map" by
            its own range, the others as images in [0, 1]. Default: none.
        boxes: for each image those around what is anomalous; None where the method makes none.
        note: a sentence for the caption, or "".
    """

    pictures: Mapping[str, np.ndarray] = field(default_factory=dict)
    boxes: Sequence[Sequence[Box]] | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureView:
    """What a detector makes of images, as points.

    Attributes:
        points: float32 [N · R, D], R ≥ 1 of each image, in the order of the images.
        landmarks: float32 [M, D], drawn as crosses; None for none.
        note: a sentence for the caption, or "".
    """

    points: np.ndarray
    landmarks: np.ndarray | None = None
    note: str = ""
