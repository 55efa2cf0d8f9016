"""The control of every evaluation: the distance to the mean of the normal images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.stats import rankdata

from robustcls.data.splits import Split

# Images whose floats are in memory at once.
_CHUNK = 4096
# Of a normal distribution, for 95 % on both sides.
_QUANTILE = 1.96


def mean_image_scores(train: Split, test: Split) -> np.ndarray:
    """Returns each test image's root mean square distance to the mean training image, [N].

    Args:
        train: normal images.
        test: images to score.
    """
    mean = np.zeros(train.images.shape[1:])
    for start in range(0, len(train), _CHUNK):
        mean += train.take(slice(start, start + _CHUNK)).float_images().sum(0)
    mean /= len(train)
    return np.concatenate(
        [
            np.sqrt(
                np.square(test.take(slice(start, start + _CHUNK)).float_images() - mean).mean(
                    (1, 2, 3)
                )
            )
            for start in range(0, len(test), _CHUNK)
        ]
    )


def compare_with_control(
    scores: np.ndarray, control: np.ndarray, labels: np.ndarray
) -> dict[str, Any]:
    """Measures whether a detector's scores rank better than the control's, and than chance.

    Args:
        scores: float [N], the detector's.
        control: float [N], of `mean_image_scores`.
        labels: int [N], 0 normal, 1 anomaly.

    Returns:
        `mean_image_auroc`; `findings`, sentences that speak against the detector. Nothing where
        the images are of one kind alone.

    Reference: DeLong et al., 1988, "Comparing the Areas under Two or More Correlated Receiver
    Operating Characteristic Curves".
    """
    if not 0 < labels.sum() < len(labels):
        return {"findings": []}
    own, other = _placements(scores, labels), _placements(control, labels)
    auroc, reference = own[0].mean(), other[0].mean()
    findings = []
    if auroc - _margin(*own) <= 0.5:
        findings.append(
            f"The detector ranks images no better than chance: AUROC {100 * auroc:.1f} % of "
            f"{len(labels):,} images."
        )
    gain = auroc - reference
    if gain <= 0 or gain <= _margin(own[0] - other[0], own[1] - other[1]):
        relation = "is no better than" if gain <= 0 else "cannot be told from"
        findings.append(
            f"The detector {relation} the distance to the mean normal image: AUROC "
            f"{100 * auroc:.1f} against {100 * reference:.1f} %."
        )
    return {"mean_image_auroc": float(reference), "findings": findings}


def _placements(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns for each anomaly the share of normal images below it, and the reverse."""
    ranks = rankdata(scores)
    anomalies, normal = ranks[labels == 1], ranks[labels == 0]
    below = (anomalies - rankdata(anomalies)) / len(normal)
    return below, 1 - (normal - rankdata(normal)) / len(anomalies)


def _margin(anomalies: np.ndarray, normal: np.ndarray) -> float:
    """Half the width of the 95 % interval of an AUROC, or of a difference of two."""
    variances = (part.var(ddof=min(1, len(part) - 1)) / len(part) for part in (anomalies, normal))
    return _QUANTILE * math.sqrt(sum(variances))
