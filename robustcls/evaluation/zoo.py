"""The row of a model of the zoo, measured anew."""

from __future__ import annotations

from typing import Any

import numpy as np

from robustcls.attacks import PGD, AutoAttack
from robustcls.bounds.certification import certify_by_bounds
from robustcls.data.sources import load
from robustcls.evaluation.intervals import Measurement, measurement
from robustcls.models.zoo.cards import Card
from robustcls.models.zoo.loading import load_pretrained

PGD_STEPS = 100


def evaluate_card(card: Card, *, seed: int = 0) -> dict[str, Measurement]:
    """Measures a model of the zoo on all its test images, within the ball of its card.

    Attacks leave out the images that bounds certify, since no attack can turn them.

    Args:
        card: of the model.
        seed: of the attacks, int >= 0.

    Returns:
        By name (`clean`, `certified` for an L-infinity ball, `pgd100`, `autoattack`) the
        measurement: accuracy in [0, 1], the ends of its 95 % interval, and the images.

    Raises:
        InputError: the weights are not those of the card, or the images cannot be had.
    """
    model = load_pretrained(card.name)
    test = load(card.data).test
    images, labels = test.float_images(), test.labels
    predicted = np.argmax(model.predict(images, batch_size=256, verbose=0), axis=1)
    right = {"clean": int((predicted == labels).sum())}
    certified = np.zeros(len(test), bool)
    if card.norm == "inf":
        found = certify_by_bounds(model, images, labels, epsilon=card.epsilon, batch_size=256)
        certified = found.certified
        right["certified"] = int(certified.sum())
    doubtful = np.flatnonzero((predicted == labels) & ~certified)
    settings: dict[str, Any] = {"epsilon": card.epsilon, "norm": card.norm, "seed": seed}
    for attack in (PGD(steps=PGD_STEPS, **settings), AutoAttack(**settings)):
        standing = len(doubtful)
        if standing:
            standing -= int(attack(model, images[doubtful], labels[doubtful]).success.sum())
        right[attack.name] = int(certified.sum()) + standing
    return {name: measurement(name, count, len(test)) for name, count in right.items()}
