"""Batches of one size, so that one compiled graph serves any number of images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from robustcls._progress import tqdm


def in_batches(
    function: Callable[..., np.ndarray],
    *arrays: np.ndarray,
    batch_size: int,
    progress: str | None = None,
) -> np.ndarray:
    """Returns what `function` makes of the arrays, batch by batch, as one array.

    Args:
        function: takes a batch of each array and returns an array of the same length.
        *arrays: of the same length N >= 1.
        batch_size: of every batch; the last is filled up with repetitions, whose results are
            dropped.
        progress: words for a progress bar; None shows none.
    """
    count = len(arrays[0])
    results = []
    starts = range(0, count, batch_size)
    for start in tqdm(starts, desc=progress, unit="batch", disable=progress is None, leave=False):
        indices = np.minimum(np.arange(start, start + batch_size), count - 1)
        outputs = np.asarray(function(*(array[indices] for array in arrays)))
        results.append(outputs[: count - start])
    return np.concatenate(results)
