"""Pictures: a confusion matrix, attacked images beside the change."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from robustcls._settings import PositiveInt, checked
from robustcls._validation import InputError, check_images, check_labels
from robustcls.plots.figure import Plot
from robustcls.reports.pictures import amplifying_factor

# More classes than that leave no room for numbers.
_MOST_NUMBERS = 20


def confusion_matrix(
    labels: np.ndarray, predicted: np.ndarray, class_names: Sequence[str] | None = None
) -> Figure:
    """Returns which classes are taken for which, rows the true ones, in shares of each row.

    Args:
        labels: int [N], the true class ids.
        predicted: int [N], what a model says, on clean or attacked images.
        class_names: one name a class id; numbers when None (default None).

    Raises:
        InputError: the labels are unusable, or not of the same number.
    """
    labels = check_labels(labels, len(labels))
    predicted = check_labels(predicted, len(labels), argument="predicted")
    count = 1 + int(max(labels.max(initial=0), predicted.max(initial=0)))
    names = [str(at) for at in range(count)] if class_names is None else list(class_names)
    check_labels(np.append(labels, predicted), 2 * len(labels), len(names))
    counts = np.zeros((len(names), len(names)), np.int64)
    np.add.at(counts, (labels, predicted), 1)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    side = 1.6 + min(10.0, 0.42 * len(names))
    figure = Plot(side + 0.8, side)
    axes = figure.add_subplot()
    picture = axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(picture, ax=axes, label="of the class in %", shrink=0.8)
    step = max(1, len(names) // 30)
    places = range(0, len(names), step)
    words = [name if len(name) <= 20 else name[:19] + "…" for name in names[::step]]
    axes.set_xticks(places, words, rotation=90, fontsize=7)
    axes.set_yticks(places, words, fontsize=7)
    axes.set_xlabel("taken for")
    axes.set_ylabel("class")
    if len(names) <= _MOST_NUMBERS:
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[row, column] > 0.5 else "black"
            number = f"{counts[row, column]}"
            axes.text(column, row, number, ha="center", va="center", color=colour, fontsize=7)
    return figure


@checked
def gallery(
    images: np.ndarray,
    adversarial: np.ndarray,
    titles: Sequence[str] = (),
    *,
    limit: PositiveInt = 8,
) -> Figure:
    """Returns images, their attacked twins and the change between them, amplified.

    Args:
        images: float32 [N, H, W, C] in [0, 1].
        adversarial: float32 [N, H, W, C] in [0, 1], for example `AttackResult.adversarial`.
        titles: above each image, for example what the model takes it for before and after
            (default ()).
        limit: columns at most, the first images (int >= 1, default 8).

    Raises:
        InputError: the arrays are unusable, or there is not a title for each image.
    """
    images, twins = check_images(images), check_images(adversarial, "adversarial")
    if images.shape != twins.shape:
        raise InputError(f"adversarial must be {images.shape}, as images; received {twins.shape}.")
    if titles and len(titles) != len(images):
        raise InputError(f"titles must be {len(images)}, one an image; received {len(titles)}.")
    count = min(limit, len(images))
    images, twins = images[:count], twins[:count]
    factor = amplifying_factor(twins - images)
    rows = {
        "image": images,
        "attacked": twins,
        f"change × {factor}": np.clip(0.5 + factor * (twins - images), 0, 1),
    }
    figure = Plot(0.5 + 1.3 * count, 4.4)
    grid = figure.subplots(3, count, squeeze=False)
    for row, (name, pictures) in zip(grid, rows.items(), strict=True):
        row[0].set_ylabel(name, fontsize=8)
        for axes, picture in zip(row, pictures, strict=True):
            axes.imshow(np.broadcast_to(picture, (*picture.shape[:2], 3)))
            axes.set_xticks([])
            axes.set_yticks([])
    for axes, title in zip(grid[0], titles, strict=False):
        axes.set_title(title, fontsize=7, wrap=True)
    return figure
