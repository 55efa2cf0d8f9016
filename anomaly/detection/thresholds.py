"""Thresholds from normal images alone, for a stated rate of false alarms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from robustcls._settings import Rate, checked
from robustcls._validation import InputError

#: Share of the normal images that `hold_out` keeps from training.
HELD_OUT = 0.1


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


def hold_out(
    images: np.ndarray, false_alarm_rate: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts normal images into those to train on and those the threshold is taken from.

    Args:
        images: [N, ...].
        false_alarm_rate: the fewer false alarms, the more images are held out, if need be.
        seed: of the choice.

    Raises:
        InputError: more than half of the images would be held out.
    """
    needed = smallest_sample(false_alarm_rate)
    count = max(round(HELD_OUT * len(images)), needed)
    if count > len(images) / 2:
        # Half of the images would do for this rate, rounded up.
        possible = math.ceil(100 / (len(images) // 2 + 1)) / 100
        raise InputError(
            f"normal_images must be at least {2 * needed} for a false-alarm rate of "
            f"{false_alarm_rate:g}, half of them to set the threshold; received {len(images)}."
            + (f" Did you mean false_alarm_rate={possible:g}?" if possible < 1 else "")
        )
    order = np.random.default_rng(seed).permutation(len(images))
    return images[np.sort(order[count:])], images[np.sort(order[:count])]
