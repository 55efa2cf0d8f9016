"""Whether a classifier's confidence can be taken at its word."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, softmax
from sklearn.metrics import roc_auc_score

from robustcls._notebook import Brief, Briefly
from robustcls._validation import InputError, MultiHot, check_labels
from robustcls.classifiers.answers import is_right

BINS = 15


@dataclass(frozen=True, repr=False)
class Calibration(Briefly):
    """Confidence against accuracy; confidence is the largest probability.

    Attributes:
        count: images, or answers where each image has several.
        accuracy: share of them that are right, in [0, 1].
        mean_confidence: in [0, 1].
        ece: expected calibration error in [0, 1], the mean distance of confidence and accuracy
            over 15 bins of equal width, weighted by their images (Guo et al., "On calibration of
            modern neural networks", 2017, equation 3).
        auroc: chance that a right answer is given with more confidence than a wrong one; 0.5
            tells nothing. None where all answers are right, or all wrong.
        bin_count: images in each bin.
        bin_confidence, bin_accuracy: means over each bin; 0 for an empty one.
    """

    count: int
    accuracy: float
    mean_confidence: float
    ece: float
    auroc: float | None
    bin_count: tuple[int, ...]
    bin_confidence: tuple[float, ...]
    bin_accuracy: tuple[float, ...]

    def brief(self) -> Brief:
        bins = zip(self.bin_count, self.bin_confidence, self.bin_accuracy, strict=True)
        rows = [[str(n), f"{100 * c:.1f}", f"{100 * a:.1f}"] for n, c, a in bins if n]
        shares = {"right": self.accuracy, "sure": self.mean_confidence, "apart": self.ece}
        words = ", ".join(f"{100 * share:.1f} % {name}" for name, share in shares.items())
        return Brief(f"{self.count} answers, {words}", ("answers", "confidence %", "right %"), rows)


def calibration(
    logits: np.ndarray, labels: np.ndarray, *, independent: bool = False
) -> Calibration:
    """Compares a classifier's confidence with its accuracy.

    Args:
        logits: float32 [N, classes], N at least 1.
        labels: int [N]; or multi-hot rows [N, classes], where the yes or no to each class, with its
            sigmoid's confidence, counts as an image of its own.
        independent: probabilities are sigmoids, one for each class, rather than a softmax (bool,
            default False).

    Raises:
        InputError: the shapes do not fit together.
    """
    logits = np.asarray(logits, np.float64)
    if logits.ndim != 2 or not len(logits):
        raise InputError(f"logits must be [N, classes], N >= 1; received shape {logits.shape}.")
    labels = check_labels(labels, len(logits), logits.shape[1], several=True)
    if isinstance(labels, MultiHot):
        confidence = expit(np.abs(logits)).ravel()
        right = np.asarray((logits > 0) == labels).ravel()
    else:
        confidence = (expit(logits) if independent else softmax(logits, axis=1)).max(axis=1)
        right = is_right(logits, labels)
    # Bins are (low, high], as in the paper.
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    count = np.bincount(bins, minlength=BINS)
    sums = [np.bincount(bins, values, minlength=BINS) for values in (confidence, right)]
    mean_confidence, mean_accuracy = (total / np.maximum(count, 1) for total in sums)
    varied = 0 < right.sum() < len(right)
    return Calibration(
        count=len(right),
        accuracy=float(right.mean()),
        mean_confidence=float(confidence.mean()),
        ece=float((count * np.abs(mean_confidence - mean_accuracy)).sum() / len(right)),
        auroc=float(roc_auc_score(right, confidence)) if varied else None,
        bin_count=tuple(count.tolist()),
        bin_confidence=tuple(mean_confidence.tolist()),
        bin_accuracy=tuple(mean_accuracy.tolist()),
    )
