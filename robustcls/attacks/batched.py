"""Runs an attack that says in one call what to make of a batch of images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from robustcls._progress import tqdm
from robustcls._validation import InputError
from robustcls.attacks import norms
from robustcls.attacks.checkpoint import Checkpoint
from robustcls.attacks.draws import derive
from robustcls.attacks.task import Options, Task
from robustcls.classifiers.classifier import Classifier

Perturb = Callable[[Classifier, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def perturb_in_batches(
    attack: Any, perturb: Perturb, classifier: Classifier, task: Task, options: Options
) -> None:
    """Perturbs the images of `task` that still stand; what comes back is moved into the ball.

    Args:
        attack: its name, epsilon, norm and seed; for a checkpoint all settings, by its `repr`.
        perturb: as `Attack.perturb`.
        classifier: the model.
        task: the images; what is found is noted there.
        options: how to run.

    Raises:
        InputError: `perturb` fails, or returns something else than images.
    """
    waiting = np.flatnonzero(~task.success)
    checkpoint = None
    if options.checkpoint is not None:
        checkpoint = Checkpoint(options.checkpoint, attack, classifier, task)
        waiting = (checkpoint.load(task) or {"waiting": waiting})["waiting"]
    bar = tqdm(
        total=len(task.images),
        initial=len(task.images) - len(waiting),
        desc=attack.name,
        unit="image",
        disable=not options.progress,
    )
    with bar:
        while len(waiting):
            index, waiting = np.split(waiting, [options.batch_size])
            keys = derive(task.keys[index], attack.seed)
            images = task.images[index]
            points = _checked(attack.name, perturb, classifier, images, task.labels[index], keys)
            points = norms.project(points, images, attack.epsilon, attack.norm).numpy()
            task.record(index, points, classifier.predict(points), np.ones(len(index), bool))
            task.passes[index] += classifier.samples
            bar.update(len(index))
            if checkpoint and (checkpoint.due or not len(waiting)):
                checkpoint.save(task, {"waiting": waiting})


def _checked(
    name: str,
    perturb: Perturb,
    classifier: Classifier,
    images: np.ndarray,
    labels: np.ndarray,
    keys: np.ndarray,
) -> np.ndarray:
    # Copies: what is written into them must not reach the data.
    points = np.asarray(perturb(classifier, images.copy(), labels.copy(), keys))
    if points.shape != images.shape or points.dtype.kind != "f" or not np.isfinite(points).all():
        raise InputError(
            f"perturb of attack '{name}' must return finite float32 images of shape "
            f"{images.shape}; received {points.dtype} of shape {points.shape}."
        )
    return points.astype(np.float32, copy=False)
