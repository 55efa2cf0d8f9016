"""Thresholds from normal images alone, for a stated rate of false alarms."""

from __future__ import annotations

import math

import numpy as np

from robustcls._validation import InputError
from robustcls.evaluation.conformal import conformal_threshold as conformal_threshold
from robustcls.evaluation.conformal import smallest_sample

#: Share of the normal images that `hold_out` keeps from training.
HELD_OUT = 0.1


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
