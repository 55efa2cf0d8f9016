"""Other images of a report: the nearest of the training, and where concepts are strongest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robustcls._validation import InputError
from robustcls.attacks import Attack
from robustcls.data.splits import Split
from robustcls.evaluation.prediction import floats
from robustcls.explanation.concepts.concepts import Concepts, find_concepts
from robustcls.explanation.examples.neighbors import nearest_images
from robustcls.explanation.explainer import Explainer
from robustcls.explanation.methods.resampling import enlarge
from robustcls.explanation.reports.given.images import ExplainedImages
from robustcls.reports.gallery import Panel, Row
from robustcls.reports.pictures import HEAT, data_uri, overlay, to_pixels

# Nearest training images of an image.
NEAREST = 4
# Classes whose concepts are shown, images that they need, concepts and pictures of each.
_CLASSES, _FEWEST, CONCEPTS, _PICTURES = 3, 3, 4, 4

ABOUT_CONCEPTS = (
    "Concepts are parts that the feature maps of a class's images have in common, by non-negative "
    "matrix factorization; each is shown where it is strongest. Importance is the share of what "
    "the class's logit varies by, as concepts come and go, that is due to one (total Sobol index)."
)


@dataclass(frozen=True, eq=False)
class NearestPictures:
    """The training images that are most like those explained.

    Attributes:
        pictures: float32 [N, `NEAREST`, H, W, C] in [0, 1].
        similarities: float32 [N, `NEAREST`], cosines of features.
        ids: str [N, `NEAREST`].
        labels: str [N, `NEAREST`], their classes in words.
    """

    pictures: np.ndarray
    similarities: np.ndarray
    ids: np.ndarray
    labels: np.ndarray

    def row(self, at: int, most_bytes: int) -> Row:
        """Returns the pictures of one image.

        Args:
            at: its index.
            most_bytes: of a picture.
        """
        panels = [
            Panel(f"{label}, {similarity:.2f}", data_uri(to_pixels(picture), most_bytes=most_bytes),
                  f"training image {name}, {label}, cosine {similarity:.2f}")
            for picture, similarity, name, label in zip(
                self.pictures[at], self.similarities[at], self.ids[at], self.labels[at], strict=True
            )
        ]  # fmt: skip
        return Row("Nearest training images, cosine of features", panels)


@dataclass(frozen=True, eq=False)
class ClassConcepts:
    """The concepts of a class, and images that they are of.

    Attributes:
        concepts: of the class.
        images: float32 [n, H, W, C] in [0, 1].
        attacked: float64 [K], the importance in their attacked twins; None without an attack.
    """

    concepts: Concepts
    images: np.ndarray
    attacked: np.ndarray | None

    def rows(self, model: str, name: str, most_bytes: int) -> list[Row]:
        """Returns a row for each concept: where it is strongest.

        Args:
            model: its name.
            name: of the class.
            most_bytes: of a picture.
        """
        rows = []
        heats = enlarge(np.moveaxis(self.concepts.maps, -1, 0), *self.images.shape[1:3])
        for at, (heat, importance) in enumerate(zip(heats, self.concepts.importance, strict=True)):
            strongest = np.argsort(-heat.max((1, 2)), kind="stable")[:_PICTURES]
            scale = float(heat.max()) or 1.0
            about = f"{model}, {name}, concept {at + 1}"
            panels = [
                Panel("", data_uri(overlay(self.images[i], heat[i] / scale, HEAT),
                                   most_bytes=most_bytes), f"{about}: an image it is strong in")
                for i in strongest
            ]  # fmt: skip
            after = "" if self.attacked is None else f", in attacked twins {self.attacked[at]:.2f}"
            rows.append(Row(about, panels, note=f"Importance {importance:.2f}{after}."))
        return rows


def find_nearest(
    explainer: Explainer, images: np.ndarray, training: Split, class_names: Sequence[str]
) -> NearestPictures:
    """Finds the training images that are most like each image to the model.

    Args:
        explainer: of the model.
        images: float32 [N, H, W, C] in [0, 1].
        training: the images that it has learnt from.
        class_names: one name a class id.

    Raises:
        InputError: training images of another shape, or too few.
    """
    found = nearest_images(explainer, images, training.images, count=NEAREST)
    chosen = training.take(found.indices.ravel())
    known = ExplainedImages(images, chosen.labels, chosen.ids, tuple(class_names))
    names = [known.label_name(at) or "" for at in range(len(chosen.labels))]
    shape = found.indices.shape
    return NearestPictures(
        floats(chosen.images).reshape(*shape, *images.shape[1:]),
        found.similarities,
        np.array(chosen.ids).astype(str).reshape(shape),
        np.array(names).reshape(shape),
    )


def find_class_concepts(
    explainer: Explainer, images: np.ndarray, attack: Attack | None, seed: int
) -> tuple[ClassConcepts, ...]:
    """Finds the concepts of the classes that most images are taken for.

    Args:
        explainer: of the model.
        images: float32 [N, H, W, C] in [0, 1].
        attack: makes the twins; None for none.
        seed: of where the factorization begins.

    Raises:
        InputError: the model has no layer with a feature map, or no class has enough images.
    """
    answers = explainer.predict(images).argmax(-1)
    labels, counts = np.unique(answers, return_counts=True)
    order = [at for at in np.argsort(-counts, kind="stable") if counts[at] >= _FEWEST]
    if not order:
        raise InputError(
            f"show_concepts must have at least {_FEWEST} images that the model takes for one "
            f"class; no class has so many of {len(images)}. Did you mean a larger limit?"
        )
    found = []
    for label in labels[order[:_CLASSES]]:
        own = images[answers == label]
        concepts = find_concepts(explainer, own, int(label), count=CONCEPTS, seed=seed)
        attacked = None
        if attack is not None:
            size = explainer.batch_size
            twins = attack(explainer.classifier, own, answers[answers == label], batch_size=size)
            attacked = concepts.of(explainer, twins.adversarial)[1]
        found.append(ClassConcepts(concepts, own, attacked))
    return tuple(found)
