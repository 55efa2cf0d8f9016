"""What would have to change for the model to take an image for another class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from robustcls._notebook import Brief, Briefly
from robustcls._settings import Choice, NonNegativeInt, PositiveInt, checked
from robustcls._validation import InputError, check_images, check_labels
from robustcls.attacks import PGD
from robustcls.explanation.explainer import Explainer

# Radii are tried on a scale of which eight steps double them, from 2^-8 of the largest.
_STEPS_TO_DOUBLE = 8
_RADII = 8 * _STEPS_TO_DOUBLE
# Of the length of the way back to the image; then a hundredth of a percent is left.
_HALVINGS = 13


@dataclass(frozen=True, eq=False, repr=False)
class Counterfactuals(Briefly):
    """The smallest changes that were found.

    Attributes:
        images: float32 [N, H, W, C] in [0, 1]; the image itself where none was found.
        targets: int64 [N], the classes that they are to be taken for.
        success: bool [N], the model takes them for these.
        distances: float64 [N], how far they are from the images; NaN where none was found.
    """

    images: np.ndarray
    targets: np.ndarray
    success: np.ndarray
    distances: np.ndarray

    def brief(self) -> Brief:
        return Brief(f"{int(self.success.sum()):,} of {len(self.success):,} counterfactuals found")


@checked
def counterfactuals(
    explainer: Explainer,
    images: np.ndarray,
    targets: np.ndarray | None = None,
    *,
    norm: Annotated[str, Choice(("inf", "2"))] = "2",
    steps: PositiveInt = 20,
    seed: NonNegativeInt = 0,
) -> Counterfactuals:
    """Looks for the smallest attack toward a class: what an image lacks to be taken for it.

    For each image the radius of a targeted PGD is halved, on a scale of which eight steps double
    it, until the attack just reaches the class; from there it goes straight back as far as the
    class holds. On a model that was trained against attacks the change tends to show what makes the
    class, on a plain one it tends to be noise.

    Source: Wachter et al., "Counterfactual explanations without opening the black box", 2017;
    Madry et al., "Towards deep learning models resistant to adversarial attacks", 2017, for PGD;
    Augustin et al., "Adversarial robustness on in- and out-distribution improves explainability",
    2020, for robust models.

    Args:
        explainer: of the model.
        images: float32 [N, H, W, C] in [0, 1].
        targets: int [N], the classes to reach; the likeliest but the model's answer if None
            (default None).
        norm: that is small ("inf" or "2", default "2").
        steps: of each attack (int >= 1, default 20).
        seed: of the attacks (int >= 0, default 0).

    Raises:
        InputError: images or targets do not fit the model, a target is what the model answers, or
            the model has no gradients.
    """
    images = check_images(images)
    width = explainer.prepare(images)
    order = np.argsort(-explainer.scores(images), axis=1, kind="stable")
    targets = order[:, 1] if targets is None else targets
    targets = check_labels(targets, len(images), width, "targets")
    same = np.flatnonzero(targets == order[:, 0])
    if len(same):
        raise InputError(
            f"targets must be other classes than the model's answers; image {same[0]} is taken for "
            f"{targets[same[0]]} already."
        )
    # No pixel has farther to go than 1; half of that gray reaches.
    largest = 0.5 if norm == "inf" else 0.5 * float(np.sqrt(images[0].size))
    radii = largest * 2.0 ** ((np.arange(_RADII + 1) - _RADII) / _STEPS_TO_DOUBLE)
    found = images.copy()
    success = np.zeros(len(images), bool)
    low, high = np.full(len(images), -1), np.full(len(images), len(radii) - 1)
    tried = high.copy()
    while True:
        open_ones = np.flatnonzero((high - low > 1) | ((tried == high) & ~success & (low < high)))
        if not len(open_ones):
            break
        for number in np.unique(tried[open_ones]):
            at = open_ones[tried[open_ones] == number]
            radius = float(radii[number])
            attack = PGD(
                epsilon=radius, norm=norm, steps=steps, targeted=True, random_start=False, seed=seed
            )
            result = attack(
                explainer.classifier, images[at], targets[at], batch_size=explainer.batch_size
            )
            reached = at[result.success]
            found[reached], success[reached] = result.adversarial[result.success], True
            high[reached], low[at[~result.success]] = number, number
        tried = (low + high) // 2
    found = _back(explainer, images, found, targets)
    change = (found - images).reshape(len(images), -1).astype(np.float64)
    sizes = np.abs(change).max(1) if norm == "inf" else np.sqrt((change**2).sum(1))
    return Counterfactuals(found, targets, success, np.where(success, sizes, np.nan))


def _back(
    explainer: Explainer, images: np.ndarray, found: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    """As near to the images, on the straight way, as the model still says the class."""
    near, far = np.zeros(len(images), np.float32), np.ones(len(images), np.float32)
    for _ in range(_HALVINGS):
        middle = (near + far) / 2
        points = images + middle[:, None, None, None] * (found - images)
        holds = explainer.scores(points).argmax(-1) == targets
        near, far = np.where(holds, near, middle), np.where(holds, middle, far)
    return (images + far[:, None, None, None] * (found - images)).astype(np.float32)
