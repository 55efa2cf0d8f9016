"""What is to be attacked and what has been found so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from robustcls._notebook import Brief, Briefly
from robustcls.attacks.draws import image_keys
from robustcls.classifiers.answers import is_right
from robustcls.classifiers.classifier import Classifier

State = dict[str, np.ndarray]


@dataclass(frozen=True)
class Options:
    """How to run an attack; nothing here changes what it finds.

    Attributes:
        batch_size: images the model sees at a time.
        progress: show a bar.
        active_set: leave fallen images alone.
        checkpoint: the folder that keeps the state, if any.
    """

    batch_size: int
    progress: bool
    active_set: bool
    checkpoint: Path | None


@dataclass(frozen=True, eq=False)
class Batch:
    """What a step is told of its images.

    Attributes:
        images: float32 [n, H, W, C] in [0, 1], the centers of the balls.
        labels: int64 [n], or bool [n, classes].
        targets: int64 [n], the class each run aims at; the labels where it aims at none.
        keys: uint64 [n], a key for the draws of each image's run.
        run: int64 [n], how many runs came before.
        step: int64 [n], how many steps of this run came before.
    """

    images: np.ndarray
    labels: np.ndarray
    targets: np.ndarray
    keys: np.ndarray
    run: np.ndarray
    step: np.ndarray


@dataclass
class Slots:
    """Images under attack: which, how far each has come, and a state of it from before.

    Attributes:
        index: int64 [n], which images.
        run: int64 [n], how many runs of each came before.
        step: int64 [n], how many steps of this run came before.
        state: of the runs.
        earlier: a state that each run had before; empty where nobody compares.
    """

    index: np.ndarray
    run: np.ndarray
    step: np.ndarray
    state: State
    earlier: State = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.index)

    def select(self, rows: np.ndarray | slice) -> Slots:
        """Returns some of them."""
        state, earlier = (
            {name: value[rows] for name, value in values.items()}
            for values in (self.state, self.earlier)
        )
        return Slots(self.index[rows], self.run[rows], self.step[rows], state, earlier)

    def join(self, other: Slots) -> Slots:
        """Returns these and others."""
        if not len(self):
            return other
        state, earlier = (
            {name: np.concatenate([value, more[name]]) for name, value in values.items()}
            for values, more in ((self.state, other.state), (self.earlier, other.earlier))
        )
        return Slots(
            np.concatenate([self.index, other.index]),
            np.concatenate([self.run, other.run]),
            np.concatenate([self.step, other.step]),
            state,
            earlier,
        )


@dataclass(frozen=True, eq=False, repr=False)
class AttackResult(Briefly):
    """What an attack found.

    Attributes:
        adversarial: float32 [N, H, W, C] in [0, 1], within the ball around each image. Where the
            attack failed, the iterate that came closest: the one with the least margin between
            the logit of the label and the next. Where the image was misclassified to begin
            with, the image itself.
        success: bool [N], the model misclassifies `adversarial`; for a targeted attack, it
            takes it for the target.
    """

    adversarial: np.ndarray
    success: np.ndarray

    @property
    def robust_accuracy(self) -> float:
        """The share of images that the attack could not turn, in [0, 1]."""
        return 1.0 - float(self.success.mean())

    def brief(self) -> Brief:
        return Brief(f"turned {int(self.success.sum()):,} of {len(self.success):,} images")


class Task:
    """The images and, for each, the best that the attacks on it have found.

    Args:
        classifier: what is attacked.
        images: float32 [N, H, W, C] in [0, 1].
        labels: int64 [N], or a `MultiHot`.
        targeted: the labels are classes to reach.
        rivals: how many classes besides the label to rank.
        batch_size: images the model sees at a time.

    Attributes:
        keys: uint64 [N], what random numbers are derived from.
        rivals: int [N, rivals], the likeliest classes for the image other than its label, the
            likeliest first.
        adversarial: float32 [N, H, W, C], the image at first.
        success: bool [N], `adversarial` does what the attack wants.
        margin: float32 [N], by how much it does, in logits; negative where it does not.
        touched: bool [N], `adversarial` is not the image any more.
    """

    def __init__(
        self,
        classifier: Classifier,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        targeted: bool,
        rivals: int,
        batch_size: int,
    ) -> None:
        self.images, self.labels, self.targeted = images, labels, targeted
        self.keys = image_keys(images)
        self.adversarial = images.copy()
        self.success = np.zeros(len(images), bool)
        self.margin = np.full(len(images), -np.inf, np.float32)
        self.touched = np.zeros(len(images), bool)
        self.rivals = np.zeros((len(images), rivals), np.int64)
        for start in range(0, len(images), batch_size):
            batch = slice(start, start + batch_size)
            logits = classifier.predict(images[batch])
            self.margin[batch], self.success[batch] = self.judge(logits, labels[batch])
            if rivals:
                others, own = all_right_first(logits, labels[batch])
                np.put_along_axis(others, own[:, None], -np.inf, axis=1)
                order = np.argsort(-others, axis=1, kind="stable")
                self.rivals[batch] = order[:, :rivals]

    def judge(self, logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the margins, float32 [n], and whether the model is fooled, bool [n].

        The margin is the highest other logit minus the label's, or, when targeted, the label's
        minus the highest other.
        """
        ahead, right = margins(logits, labels), is_right(logits, labels)
        return (-ahead, right) if self.targeted else (ahead, ~right)

    def record(
        self, index: np.ndarray, points: np.ndarray, logits: np.ndarray, legal: np.ndarray
    ) -> np.ndarray:
        """Keeps what is better than what was found before.

        Args:
            index: int [n], which images.
            points: float32 [n, H, W, C], their new variants.
            logits: float32 [n, classes], the model's view of those.
            legal: bool [n], the variants that lie within the ball.

        Returns:
            Which variants are a success, bool [n].
        """
        margin, fooled = self.judge(logits, self.labels[index])
        fooled &= legal
        better = legal & ~self.success[index] & (fooled | (margin > self.margin[index]))
        chosen = index[better]
        self.adversarial[chosen] = points[better]
        self.margin[chosen] = margin[better]
        self.touched[chosen] = True
        self.success[index] |= fooled
        return fooled

    def ask_again(self, classifier: Classifier, batch_size: int) -> None:
        """Lets images that an attack turned stand, where a random model is now right about them.

        Of many points one is misclassified by chance; new answers say whether it is more.

        Args:
            classifier: the model.
            batch_size: images the model sees at a time.
        """
        turned = np.flatnonzero(self.touched & self.success)
        for start in range(0, len(turned), batch_size):
            index = turned[start : start + batch_size]
            logits = classifier.predict(self.adversarial[index])
            self.margin[index], self.success[index] = self.judge(logits, self.labels[index])


def margins(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the highest other logit minus the label's, float32 [n].

    Of multi-hot labels: how far the class that is most nearly answered wrong is beyond 0.

    Args:
        logits: float32 [n, classes].
        labels: int64 [n], or a `MultiHot`.
    """
    logits, labels = all_right_first(logits, labels)
    own = np.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    np.put_along_axis(logits, labels[:, None], -np.inf, axis=1)
    return logits.max(axis=1) - own


def all_right_first(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns copies of logits and labels of one class an image, whatever the labels are.

    Of multi-hot labels: class 0 is that every answer is right, with the logit 0, and class k that
    the answer about class k - 1 is wrong, with that class's logit turned so that it rises then.

    Args:
        logits: float32 [n, classes].
        labels: int64 [n], or a `MultiHot`.
    """
    if labels.ndim == 1:
        return logits.copy(), labels
    turned = np.where(labels, -logits, logits)
    return np.pad(turned, [[0, 0], [1, 0]]), np.zeros(len(logits), np.int64)
