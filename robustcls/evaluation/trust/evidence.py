"""The figures that the checks judge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RESTARTS = 5
REPEATS = 5
RANDOM_DRAWS = 20
LARGE_STEPS = 100


@dataclass(frozen=True, eq=False)
class Evidence:
    """What was measured on `count` images.

    Booleans [N] say for each image whether the model classifies it right: `fgsm` on the image
    after one step, the others on the image itself and on everything the attack tried.

    Attributes:
        count: images attacked.
        num_classes: width of the logits.
        epsilon, norm, steps: the ball, and the steps of PGD.
        returns_probabilities: the model ends in softmax.
        spread: largest difference between repeated calls, in shares of an image's largest logit.
        zero, broken: share of images whose gradient is zero, or holds NaN or infinity.
        zero_through_outputs: share whose gradient through the model's own softmax is zero.
        alignment: mean cosine between the gradients at the image and at a random point near it.
        clean: bool [N].
        fgsm: bool [N].
        pgd, apgd: bool [N].
        attack: whose figures are judged, "pgd" or "apgd".
        doubled, restarted: bool [N], PGD with twice the steps; with `RESTARTS` starts. Where
            APGD is judged, on the images that stand after it.
        white_box: bool [N], all of the above together.
        square: bool [N], Square, on the images that stand after `white_box`.
        transferred: bool [N], examples made on another model.
        source: that other model, in words.
        drawn: bool [N], random points of the ball.
        over_epsilon: (epsilon, accuracy) in ascending order.
        large_epsilon, large_accuracy: PGD with `LARGE_STEPS` steps in a ball that holds
            a uniform image for every image.
        attacked, silent: examples that attacks called successes, and those of them that the
            model classifies right when it sees them again.
        outside, longest: examples that are illegal, and the largest norm of a change over
            epsilon.
    """

    count: int
    num_classes: int
    epsilon: float
    norm: str
    steps: int
    returns_probabilities: bool
    spread: float
    zero: float
    broken: float
    zero_through_outputs: float
    alignment: float
    clean: np.ndarray
    fgsm: np.ndarray
    pgd: np.ndarray
    apgd: np.ndarray
    attack: str
    doubled: np.ndarray
    restarted: np.ndarray
    white_box: np.ndarray
    square: np.ndarray
    transferred: np.ndarray
    source: str
    drawn: np.ndarray
    over_epsilon: tuple[tuple[float, float], ...]
    large_epsilon: float
    large_accuracy: float
    attacked: int
    silent: int
    outside: int
    longest: float
