"""`ExplainedImages`: the images that are explained, wherever they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from robustcls._notebook import Brief, Briefly
from robustcls._validation import InputError, MultiHot, check_images, check_labels
from robustcls.classifiers.answers import is_right, labels_for
from robustcls.classifiers.classifier import Classifier
from robustcls.classifiers.ranges import require_fitting_range
from robustcls.data.splits import Split, Splits
from robustcls.explanation.quality.measures.localization import check_masks


@dataclass(frozen=True, eq=False, repr=False)
class ExplainedImages(Briefly):
    """The images that are explained.

    Attributes:
        images: float32 [N, H, W, C] in [0, 1].
        labels: int64 [N], or a `MultiHot`; None when they are not known.
        ids: str [N].
        class_names: one name a class id.
        masks: bool [N, H, W], where what counts is known to be; None where that is not known.
    """

    images: np.ndarray
    labels: np.ndarray | None
    ids: np.ndarray
    class_names: tuple[str, ...]
    masks: np.ndarray | None = None

    def brief(self) -> Brief:
        return Brief(f"{len(self.ids):,} images, {len(self.class_names)} classes")

    def name(self, label: int) -> str:
        """The class's name; a number for a class that the images do not have."""
        return self.class_names[label] if label < len(self.class_names) else f"class {label}"

    def label(self, at: int) -> int | list[int] | None:
        """The class of an image, or the classes of multi-hot rows; None when not known."""
        if self.labels is None:
            return None
        found = self.labels[at]
        return np.flatnonzero(found).tolist() if self.labels.ndim == 2 else int(found)

    def label_name(self, at: int) -> str | None:
        """The name of an image's class, or of its classes; None when not known."""
        label = self.label(at)
        if isinstance(label, list):
            return ", ".join(map(self.name, label)) or "none"
        return None if label is None else self.name(label)

    def right(self, probabilities: np.ndarray) -> np.ndarray:
        """Returns for which images a model is right, bool [N]; labels must be known.

        Args:
            probabilities: float32 [N, classes]; of multi-hot labels those of sigmoids.
        """
        several = self.labels is not None and self.labels.ndim == 2
        return is_right(probabilities - 0.5 * several, np.asarray(self.labels))

    def take(self, indices: np.ndarray) -> ExplainedImages:
        """Returns the images at `indices` alone."""
        labels = None if self.labels is None else self.labels[indices]
        masks = None if self.masks is None else self.masks[indices]
        return ExplainedImages(
            self.images[indices], labels, self.ids[indices], self.class_names, masks
        )


def explained_images(
    data: Any,
    class_names: Sequence[str] | None,
    ids: Sequence[str] | None,
    masks: np.ndarray | None = None,
) -> ExplainedImages:
    """Returns the images that `explain` was given.

    Args:
        data: as for `explain`.
        class_names: one name a class id; those of `Splits`, or numbers, if None.
        ids: a name for each image; the split's, or numbers, if None.
        masks: bool [N, H, W], as for `explain` (default None).

    Raises:
        InputError: it is nothing of the kind, or has no image, or masks do not fit the images.
    """
    if isinstance(data, Splits):
        class_names = data.class_names if class_names is None else class_names
        data = data.test
    labels: np.ndarray | None
    if isinstance(data, Split):
        images, labels, names = data.float_images(), data.labels, data.ids
    elif isinstance(data, tuple) and len(data) == 2:
        images = check_images(data[0])
        labels = None if data[1] is None else check_labels(data[1], len(images), several=True)
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
        if labels is not None and labels.ndim == 2:
            highest = labels.shape[1] - 1
        class_names = [f"class {label}" for label in range(highest + 1)]
    if masks is not None:
        masks = check_masks(masks, len(images), images.shape[1:3])
    return ExplainedImages(images, labels, names, tuple(class_names), masks)


def require_fitting(explained: ExplainedImages, classifier: Classifier) -> None:
    """Refuses labels, or a range of pixels, that a model does not fit.

    Args:
        explained: images with labels.
        classifier: one that `prepare` has told the number of its classes.

    Raises:
        InputError: there are labels that it has no class for, or multi-hot ones for a model that
            does not answer class by class with sigmoids; or it wants other pixels.
    """
    labels = labels_for(classifier, explained.labels, len(explained.images))
    if isinstance(labels, MultiHot) and not classifier.outputs.independent:
        raise InputError(
            f"labels must name one class an image for {classifier.name}, which returns logits and "
            "does not say that its probabilities are sigmoids; received multi-hot rows. Did you "
            "mean the same model with keras.layers.Activation('sigmoid') at its end?"
        )
    require_fitting_range(classifier, explained.images, labels)
