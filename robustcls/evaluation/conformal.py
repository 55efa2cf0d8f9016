"""Thresholds from scores of known images alone, for a stated rate of false alarms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from robustcls._settings import Rate, checked
from robustcls._validation import InputError


@checked
def smallest_sample(false_alarm_rate: Rate) -> int:
    """Returns how many normal scores a threshold for that rate takes at least: 19 for 0.05.

    Args:
        false_alarm_rate: share of normal images that may be called anomalies (float in (0, 1)).
    """
    return math.ceil(1 / false_alarm_rate - 1e-9) - 1


@checked
def conformal_threshold(scores: Any, false_alarm_rate: Rate) -> float:
    """Returns the threshold above which at most that share of normal images scores.

    Of n held-out scores it is the k-th smallest, k = ⌈(n + 1)(1 - rate)⌉. The score of one more
    normal image is equally likely to take any place among them, so the chance that it lies above
    is at most the rate, whatever the scores' distribution. It holds on average over held-out
    samples: one of n images misses the rate by about √(rate (1 - rate) / n).

    Args:
        scores: float [n], of normal images that the detector was not trained on.
        false_alarm_rate: as a share (float in (0, 1)).

    Raises:
        InputError: a rate out of range, scores that are not finite, or too few of them.

    Reference: Vovk, Gammerman and Shafer, 2005, "Algorithmic Learning in a Random World".
    """
    scores = np.asarray(scores)
    if scores.ndim != 1 or not np.isfinite(scores).all():
        raise InputError(
            f"scores must be finite numbers [N]; received shape {scores.shape} with "
            f"{np.count_nonzero(~np.isfinite(scores))} that are not finite."
        )
    # The small term keeps a product like 20 · 0.05 from falling below its whole number.
    above = math.floor((len(scores) + 1) * false_alarm_rate + 1e-9)
    if above < 1:
        raise InputError(
            f"scores must be of at least {smallest_sample(false_alarm_rate)} normal images for a "
            f"false-alarm rate of {false_alarm_rate:g}; received {len(scores)}."
        )
    return float(np.sort(scores)[len(scores) - above])
