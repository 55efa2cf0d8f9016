"""Scores of images that do not all fit in memory as floats."""

from __future__ import annotations

import numpy as np
from tqdm import tqdm

from anomaly.detection.detector import OneClassDetector
from robustcls.data.splits import Split

_CHUNK = 4096


def score_split(
    detector: OneClassDetector, split: Split, batch_size: int = 256, progress: bool = False
) -> np.ndarray:
    """Returns the scores of a split that may be larger than memory, float32 [N]."""
    starts = range(0, len(split), _CHUNK)
    return np.concatenate(
        [
            detector.score(
                split.take(slice(start, start + _CHUNK)).float_images(), batch_size=batch_size
            )
            for start in tqdm(starts, "Scoring", disable=not progress, leave=False)
        ]
    )
