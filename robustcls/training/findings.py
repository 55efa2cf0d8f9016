"""What must be said of a training before anybody believes its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

from robustcls.data.splits import Splits
from robustcls.training.checkpoints import read_history

#: A class with fewer training images is named.
FEW_IMAGES = 10
#: A last validation loss at that multiple of the first has risen, not wavered.
RISE = 1.05
# Accuracy is above that of one constant answer when chance alone gives it this seldom.
_LEVEL = 0.025


def constant_answer(
    model: str, right: int, labels: np.ndarray, class_names: Sequence[str], what: str
) -> str | None:
    """Says that a model does not beat the answer that is always the most frequent class.

    Where classes are of one size, that answer is right by chance.

    Args:
        model: its name.
        right: images that it classifies right.
        labels: int [N], the true classes of all.
        class_names: one name a class id.
        what: the images, for example "test images".

    Returns:
        A sentence; None when the model does beat it, and without images.
    """
    count = len(labels)
    if not count:
        return None
    sizes = np.bincount(labels, minlength=len(class_names))
    share, name = sizes.max() / count, class_names[int(np.argmax(sizes))]
    if binomtest(right, count, share, alternative="greater").pvalue <= _LEVEL:
        return None
    relation = "no more than" if right <= sizes.max() else "which cannot be told from what"
    return (
        f"{model} classifies {100 * right / count:.1f} % of {count:,} {what} right, {relation} "
        f"the one answer {name!r} for all of them would reach ({100 * share:.1f} %)."
    )


def training_findings(model: str, history: Path, splits: Splits) -> list[str]:
    """Returns what a finished training's validation figures say against it, in sentences.

    Args:
        model: its name.
        history: its `history.csv`.
        splits: the images that it was trained on.
    """
    rows = read_history(history)
    found = [rising_loss(model, rows)]
    if rows and "val_accuracy" in rows[-1]:
        labels = splits.validation.labels
        right = round(rows[-1]["val_accuracy"] * len(labels))
        found.append(constant_answer(model, right, labels, splits.class_names, "validation images"))
    return [words for words in found if words]


def rising_loss(model: str, history: Sequence[Mapping[str, float]]) -> str | None:
    """Says that the validation loss was never again as low as after the first epoch.

    Args:
        model: its name.
        history: the logs of each epoch, with `val_loss`.

    Returns:
        A sentence; None when there is nothing to say.
    """
    losses = [row["val_loss"] for row in history if "val_loss" in row]
    if len(losses) < 2 or min(losses) < losses[0] or losses[-1] < RISE * losses[0]:
        return None
    return (
        f"{model}: the validation loss rises from the first epoch on, from {losses[0]:.3g} to "
        f"{losses[-1]:.3g}. Did you mean a smaller --optimizer.learning_rate?"
    )


def few_images(labels: np.ndarray, class_names: Sequence[str]) -> str | None:
    """Names the classes with too few training images to learn much from.

    Args:
        labels: int [N], of the training images.
        class_names: one name a class id.

    Returns:
        A sentence; None when every class has enough.
    """
    sizes = np.bincount(labels, minlength=len(class_names))
    few = [f"{class_names[at]} ({sizes[at]})" for at in np.flatnonzero(sizes < FEW_IMAGES).tolist()]
    if not few:
        return None
    named = ", ".join(few[:5]) + (f" and {len(few) - 5} more" if len(few) > 5 else "")
    return f"Fewer than {FEW_IMAGES} images to learn from: {named}."
