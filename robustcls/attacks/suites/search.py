"""What the runs of a suite have shown of each image, and which images are worth another."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from robustcls.attacks.gradient import loss_gradients
from robustcls.attacks.loop import LoopedAttack
from robustcls.attacks.margins import ranked
from robustcls.attacks.task import Options, Task
from robustcls.classifiers.classifier import Classifier

NEAR = 0.4
LITTLE = 0.05


class Search:
    """Runs attacks on the images of a task that are in doubt, and keeps the statistics.

    Args:
        classifier: the model.
        task: the images and what has been found so far.
        options: how to run; nothing there changes what is found.
    """

    def __init__(self, classifier: Classifier, task: Task, options: Options) -> None:
        self.classifier, self.task, self.options = classifier, task, options
        self.clean = task.margin.copy()
        self.ends: list[np.ndarray] = []
        self.doubtful = ~task.success
        self.flat = np.zeros(len(self.doubtful), bool)
        for index in self._batches():
            gradients = loss_gradients(classifier, task.images[index], task.labels[index])
            self.flat[index] = ~gradients.any((1, 2, 3))
            task.passes[index] += 2

    def attempt(self, attack: LoopedAttack, target: int = 0) -> None:
        """Runs an attack on the images in doubt.

        Args:
            attack: one that aims at one class gets the one at `target`.
            target: place of the class among the likeliest.
        """
        places = np.flatnonzero(self.doubtful)
        if not len(places):
            return
        part = self.task.part(places)
        rivals = attack.rivals(self.classifier.num_classes)
        if rivals == 1:
            first = target % part.rivals.shape[1]
            part.rivals = part.rivals[:, first : first + 1]
        attack.run(self.classifier, part, self.options)
        self.task.take_over(places, part)
        ends = np.full(len(self.doubtful), np.nan, np.float32)
        ends[places] = part.margin
        self.ends.append(ends)
        self.doubtful &= ~self.task.success

    def discard(self) -> None:
        """Lets images stand that the runs so far leave no doubt about.

        An image is in doubt where its margin lacks at most `NEAR` of what the best run has moved
        it by, or what its runs differ by; where that is at most `LITTLE` of its first margin; and
        where the image has no gradient.
        """
        ends = np.stack(self.ends)[:, self.doubtful]
        best, clean = np.nanmax(ends, 0), self.clean[self.doubtful]
        moved = best - clean
        near = -best <= np.maximum(NEAR * moved, best - np.nanmedian(ends, 0))
        masked = self.flat[self.doubtful] | (moved <= -LITTLE * clean)
        self.doubtful[self.doubtful] = near | masked

    def rank_rivals(self) -> None:
        """Orders the classes of each image by how near the runs so far have brought them."""
        for index in self._batches():
            logits = self.classifier.predict(self.task.adversarial[index])
            count = self.task.rivals.shape[1]
            self.task.rivals[index] = ranked(logits, self.task.labels[index], count)
            self.task.passes[index] += 1

    def _batches(self) -> Iterator[np.ndarray]:
        places, size = np.flatnonzero(self.doubtful), self.options.batch_size
        for start in range(0, len(places), size):
            yield places[start : start + size]
