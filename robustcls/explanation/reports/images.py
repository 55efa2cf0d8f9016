"""`ExplainedImages`: the images that are explained, wherever they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from robustcls._notebook import Brief, Briefly
from robustcls._validation import InputError, check_images, check_labels
from robustcls.data.splits import Split, Splits


@dataclass(frozen=True, eq=False, repr=False)
class ExplainedImages(Briefly):
    """The images that are explained.

    Attributes:
        images: float32 [N, H, W, C] in [0, 1].
        labels: int64 [N]; None when they are not known.
        ids: str [N].
        class_names: one name a class id.
    """

    images: np.ndarray
    labels: np.ndarray | None
    ids: np.ndarray
    class_names: tuple[str, ...]

    def brief(self) -> Brief:
        return Brief(f"{len(self.ids):,} images, {len(self.class_names)} classes")

    def name(self, label: int) -> str:
        """The class's name; a number for a class that the images do not have."""
        return self.class_names[label] if label < len(self.class_names) else f"class {label}"

    def take(self, indices: np.ndarray) -> ExplainedImages:
        """Returns the images at `indices` alone."""
        labels = None if self.labels is None else self.labels[indices]
        return ExplainedImages(self.images[indices], labels, self.ids[indices], self.class_names)


def explained_images(
    data: Any, class_names: Sequence[str] | None, ids: Sequence[str] | None
) -> ExplainedImages:
    """Returns the images that `explain` was given.

    Args:
        data: as for `explain`.
        class_names: one name a class id; those of `Splits`, or numbers, if None.
        ids: a name for each image; the split's, or numbers, if None.

    Raises:
        InputError: it is nothing of the kind, or has no image.
    """
    if isinstance(data, Splits):
        class_names = data.class_names if class_names is None else class_names
        data = data.test
    labels: np.ndarray | None
    if isinstance(data, Split):
        images, labels, names = data.float_images(), data.labels, data.ids
    elif isinstance(data, tuple) and len(data) == 2:
        images = check_images(data[0])
        labels = None if data[1] is None else check_labels(data[1], len(images))
        names = np.array([f"image {number}" for number in range(len(images))])
    else:
        raise InputError(
            f"data must be Splits, a Split or (images, labels); received {type(data).__name__}."
        )
    if not len(images):
        raise InputError("data must have at least one image; received an empty split.")
    if ids is not None:
        if len(ids) != len(images):
            raise InputError(f"ids must be {len(images)} names; received {len(ids)}.")
        names = np.array(list(ids))
    if class_names is None:
        highest = 0 if labels is None else int(labels.max())
        class_names = [f"class {label}" for label in range(highest + 1)]
    return ExplainedImages(images, labels, names, tuple(class_names))
