"""Where every attack begins: a model and images become what is attacked."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from robustcls._user_code import called
from robustcls._validation import InputError, check_images
from robustcls.attacks.task import Task
from robustcls.classifiers.adapters import classifier_of
from robustcls.classifiers.answers import labels_for
from robustcls.classifiers.classifier import Classifier
from robustcls.classifiers.ranges import require_fitting_range

Kind = TypeVar("Kind", bound=Task)


def open_task(
    attack: Any,
    model: Any,
    images: np.ndarray,
    labels: np.ndarray,
    batch_size: int,
    kind: type[Kind],
) -> tuple[Classifier, Kind]:
    """Returns the classifier, and the images as a task of which nothing has been found.

    Args:
        attack: the `Attack` that is to be run.
        model: as for a call of it.
        images: float32 [N, H, W, C] in [0, 1].
        labels: int [N], or multi-hot rows [N, classes].
        batch_size: images the model sees at a time.
        kind: of the task.

    Raises:
        InputError: images, labels, model and attack do not fit together.
    """
    images = check_images(images)
    classifier = classifier_of(model)
    num_classes = classifier.prepare(images, attack.answers)
    labels = labels_for(classifier, labels, len(images))
    with called(f"attack '{attack.registry_name}'", type(attack)):
        objection = attack.objection(classifier)
        if objection:
            raise InputError(objection)
        task = kind(
            classifier,
            images,
            labels,
            targeted=attack.targeted,
            rivals=attack.rivals(num_classes),
            batch_size=batch_size,
        )
        # A plain function is asked no more than the attack may ask.
        if not attack.targeted and classifier.differentiable:
            require_fitting_range(classifier, images, labels, ~task.success)
    return classifier, task
