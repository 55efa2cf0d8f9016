"""What is to be attacked and what has been found so far."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from robustcls._notebook import Brief, Briefly
from robustcls.attacks.draws import image_keys
from robustcls.attacks.margins import margins, ranked
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
        passes: int64 [N], how often the attack led each image through the model, forwards and
            backwards counted apart; None where nobody has counted (default None).
    """

    adversarial: np.ndarray
    success: np.ndarray
    passes: np.ndarray | None = None

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
        passes: int64 [N], how often each image went through the model, forwards or backwards.
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
        self.passes = np.zeros(len(images), np.int64)
        self._standing_elsewhere, self._total = 0, len(images)
        for start in range(0, len(images), batch_size):
            batch = slice(start, start + batch_size)
            logits = classifier.predict(images[batch])
            self.margin[batch], self.success[batch] = self.judge(logits, labels[batch])
            self.rivals[batch] = ranked(logits, labels[batch], rivals)
        self.passes += classifier.samples

    @property
    def robust_accuracy(self) -> float:
        """The share of images that stand, of the whole task where this is a part of one."""
        return (self._standing_elsewhere + float((~self.success).sum())) / self._total

    def part(self, places: np.ndarray) -> Task:
        """Returns a task of some of the images, of which nothing has been found yet.

        Args:
            places: int [n], which; each at most once.
        """
        part = copy.copy(self)
        for name in ("images", "labels", "keys", "rivals"):
            setattr(part, name, getattr(self, name)[places])
        part.adversarial = part.images.copy()
        part.success = np.zeros(len(places), bool)
        part.margin = np.full(len(places), -np.inf, np.float32)
        part.touched = np.zeros(len(places), bool)
        part.passes = np.zeros(len(places), np.int64)
        standing = self._standing_elsewhere + int((~self.success).sum())
        part._standing_elsewhere = standing - int((~self.success[places]).sum())
        return part

    def take_over(self, places: np.ndarray, part: Task) -> None:
        """Keeps what has been found for some of the images, where it is better.

        Args:
            places: int [n], which, none of which has fallen here.
            part: of those.
        """
        better = part.touched & (part.success | (part.margin > self.margin[places]))
        chosen = places[better]
        self.adversarial[chosen] = part.adversarial[better]
        self.margin[chosen] = part.margin[better]
        self.touched[chosen] = True
        self.success[chosen] = part.success[better]
        self.passes[places] += part.passes

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
