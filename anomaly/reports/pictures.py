"""Figures of what a detector does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from anomaly.localization.boxes import Box
from robustcls.plots.scores import score_histogram

_COLOURS = ((0, "normal", "tab:blue"), (1, "anomalies", "tab:orange"))


#: Its name in 0.1.
draw_scores = score_histogram


def draw_training(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Returns a panel for each quantity of each stage, over the epochs.

    Args:
        curves: by stage, the values after each epoch by name; `val_NAME` joins NAME's panel.
    """
    panels = [
        (stage, name) for stage, values in curves.items() for name in _without_validation(values)
    ]
    rows = -(-len(panels) // 3)
    figure = Figure(figsize=(9, 2.6 * rows), layout="constrained", dpi=120)
    for number, (stage, name) in enumerate(panels, 1):
        axes = figure.add_subplot(rows, 3, number)
        for key in (name, f"val_{name}"):
            if key in curves[stage]:
                values = curves[stage][key]
                axes.plot(range(1, len(values) + 1), values, label=key)
        axes.set_title(f"{stage}: {name}", fontsize=9)
        axes.set_xlabel("epoch")
        if f"val_{name}" in curves[stage]:
            axes.legend(fontsize=7)
    return figure


def _without_validation(names: Mapping[str, object]) -> list[str]:
    return [name for name in names if name.removeprefix("val_") == name or name[4:] not in names]


def draw_image_rows(
    shown: Mapping[str, np.ndarray],
    scores: np.ndarray,
    threshold: float,
    boxes: Sequence[Sequence[Box]] | None = None,
) -> Figure:
    """Returns images in columns, a row for each kind of picture of them.

    Args:
        shown: by name, float32 [N, H, W, C]; "map" is drawn by its own range over all images,
            the others as images in [0, 1].
        scores: float [N], above the columns, red where above the threshold.
        threshold: of the scores.
        boxes: of each image, drawn on the row "image".
    """
    count = len(scores)
    figure = Figure(figsize=(1.2 * count, 1.3 * len(shown)), layout="constrained", dpi=120)
    grid = figure.subplots(len(shown), count, squeeze=False)
    for row, (name, images) in zip(grid, shown.items(), strict=True):
        for column, (axes, image) in enumerate(zip(row, images, strict=True)):
            axes.set_xticks([])
            axes.set_yticks([])
            if name == "map":
                axes.imshow(image[..., 0], cmap="magma", vmin=0, vmax=images.max())
            else:
                axes.imshow(np.broadcast_to(image, (*image.shape[:2], 3)))
            if name == "image":
                colour = "red" if scores[column] > np.float32(threshold) else "black"
                axes.set_title(f"{scores[column]:.3g}", fontsize=8, color=colour)
                for box in boxes[column] if boxes is not None else ():
                    corner = (box.left - 0.5, box.top - 0.5)
                    width, height = box.right - box.left, box.bottom - box.top
                    axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor="red"))
        row[0].set_ylabel(name, fontsize=8)
    return figure


def draw_projection(
    points: np.ndarray, labels: np.ndarray, items: np.ndarray | None = None
) -> Figure:
    """Returns a scatter plot of features in two dimensions.

    Args:
        points: float [N, 2].
        labels: int [N], 0 normal, 1 anomaly.
        items: float [M, 2], the memory's items; None where there is no memory.
    """
    figure = Figure(figsize=(6, 5), layout="constrained", dpi=120)
    axes = figure.add_subplot()
    for kind, name, colour in reversed(_COLOURS):
        chosen = points[labels == kind]
        axes.scatter(chosen[:, 0], chosen[:, 1], 6, color=colour, alpha=0.5, label=name)
    if items is not None:
        axes.scatter(items[:, 0], items[:, 1], 30, color="black", marker="x", label="memory")
    axes.set_xlabel("first component")
    axes.set_ylabel("second component")
    axes.legend()
    return figure
