"""A few images of an evaluation with what an attack makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from robustcls.attacks import Attack
from robustcls.classifiers.classifier import Classifier
from robustcls.data.splits import Split
from robustcls.evaluation.evaluator import Evaluator
from robustcls.reports.pictures import amplifying_factor, data_uri, to_pixels

SHOWN = 8
# Of one picture, so that a page of several models stays small.
_MOST_BYTES = 16_000


def attacked_images(
    evaluator: Evaluator, attack: Attack, test: Split, places: np.ndarray, seed: int
) -> dict[str, Any]:
    """Attacks a few images, chosen at random, and returns their pictures, JSON-serializable.

    Args:
        evaluator: of the model.
        attack: what they go through.
        test: the images.
        places: int [n], which of them the evaluation attacks.
        seed: of the choice.
    """
    chosen = places
    if len(places) > SHOWN:
        chosen = np.sort(np.random.default_rng(seed).choice(places, SHOWN, replace=False))
    few = test.take(chosen)
    images = few.float_images()
    twins = attack(evaluator.classifier, images, few.labels, **evaluator.settings).adversarial
    factor = amplifying_factor(twins - images)
    before, after = (_answers(evaluator.classifier, shown) for shown in (images, twins))
    pictures = {
        "image": images,
        "attacked": twins,
        "change": 0.5 + factor * (twins - images),
    }
    return {
        "attack": attack.name,
        "of": len(places),
        "factor": factor,
        "images": [
            {
                "id": str(few.ids[at]),
                "label": int(few.labels[at]),
                "before": before[at],
                "after": after[at],
                **{
                    name: data_uri(to_pixels(shown[at]), most_bytes=_MOST_BYTES)
                    for name, shown in pictures.items()
                },
            }
            for at in range(len(few))
        ],
    }


def _answers(classifier: Classifier, images: np.ndarray) -> list[list[float]]:
    """Class and confidence for each image."""
    shares = np.asarray(classifier.outputs.probabilities(classifier.predict(images)))
    return [[int(row.argmax()), round(float(row.max()), 4)] for row in shares]
