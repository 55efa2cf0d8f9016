"""Which images a report shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robustcls._settings import PositiveInt, checked
from robustcls._validation import InputError, check_choice
from robustcls.attacks import Attack
from robustcls.explanation.explainer import Explainer
from robustcls.explanation.reports.given.images import ExplainedImages

ONLY = ("all", "correct", "wrong", "flipped")


@checked
def choose(
    explained: ExplainedImages,
    explainer: Explainer,
    attack: Attack | None,
    *,
    limit: PositiveInt,
    only: str,
    classes: Sequence[str],
    seed: int,
) -> ExplainedImages:
    """Returns at most `limit` images, in random order.

    No more images are looked at than are needed.

    Args:
        explained: to choose from.
        explainer: of the model that `only` is about.
        attack: for "flipped".
        limit: how many to choose, at random (int >= 1).
        only: one of `ONLY`.
        classes: names of the classes to choose from; all when empty.
        seed: of the order in which images are looked at.

    Raises:
        InputError: no image is left.
    """
    explainer.prepare(explained.images[:1])
    places = np.arange(len(explained.images))
    if classes:
        if explained.labels is None:
            raise InputError("classes must be left out for images without labels.")
        names = list(explained.class_names)
        wanted = [names.index(check_choice("classes", name, names)) for name in classes]
        labels = explained.labels
        several = labels.ndim == 2
        places = places[labels[:, wanted].any(1) if several else np.isin(labels, wanted)]
    order = np.random.default_rng(seed).permutation(places)
    chunk = max(4 * explainer.batch_size, limit)
    found: list[int] = []
    for start in range(0, len(order), chunk):
        indices = order[start : start + chunk]
        found += indices[_are(only, explained.take(indices), explainer, attack)].tolist()
        if len(found) >= limit:
            break
    if not found:
        condition = "" if only == "all" else f" and {only}"
        raise InputError(
            f"classes and only must leave at least one image; none of {len(explained.images)} "
            f"images is in the classes asked for{condition}."
        )
    return explained.take(np.array(found[:limit], np.int64))


def _are(
    only: str, explained: ExplainedImages, explainer: Explainer, attack: Attack | None
) -> np.ndarray:
    if only == "all":
        return np.ones(len(explained.images), bool)
    probabilities = explainer.predict(explained.images)
    labels = probabilities.argmax(-1) if explained.labels is None else explained.labels
    right = (
        np.ones(len(labels), bool) if explained.labels is None else explained.right(probabilities)
    )
    if only != "flipped":
        return right if only == "correct" else ~right
    turned = np.zeros(len(right), bool)
    if attack is not None and right.any():
        turned[right] = attack(
            explainer.classifier,
            explained.images[right],
            labels[right],
            batch_size=explainer.batch_size,
        ).success
    return turned


def in_words(only: str, classes: Sequence[str], shown: int, found: int, given: int) -> str:
    """Returns how images were chosen.

    Args:
        only: one of `ONLY`.
        classes: names of the classes they are chosen from; all when empty.
        shown: how many images are shown.
        found: how many would have done, as far as was looked.
        given: how many there were to choose from.
    """
    words = {
        "all": "",
        "correct": "only images the first model classifies right",
        "wrong": "only images the first model classifies wrong",
        "flipped": "only images on which the attack turns the first model",
    }[only]
    if shown == given:
        return "all that were given"
    conditions = [words, f"classes: {', '.join(classes)}" if classes else ""]
    how = "chosen at random from" if shown < found else "all there are among"
    return "; ".join(filter(None, [f"{how} {given:,}", *conditions]))
