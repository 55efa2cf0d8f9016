"""What all attacks share: their settings and how they are called."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from robustcls._settings import (
    Epsilon,
    NonNegativeInt,
    PositiveInt,
    check_settings,
    checked,
)
from robustcls._user_code import called
from robustcls._validation import InputError
from robustcls.attacks import norms
from robustcls.attacks.batched import perturb_in_batches
from robustcls.attacks.opening import open_task
from robustcls.attacks.registry import (
    ATTACKS,
    missing_hooks,
    require_decorated,
    require_norm,
)
from robustcls.attacks.task import AttackResult as AttackResult
from robustcls.attacks.task import Options, Task
from robustcls.classifiers.adapters import adapt as adapt
from robustcls.classifiers.classifier import Classifier


@dataclass(frozen=True, kw_only=True)
class Attack:
    """An attack on the logits of a classifier within a ball around each image.

    What an attack does to an image is a function of its settings, the model, the image and its
    label, to float rounding: neither the batch nor the other images matter.

    A subclass defines one hook, `perturb`, and is then an attack like every other: it is in
    `ATTACKS` under its name in lower case, in the command lines and in the contract tests. Its
    own settings are fields: then it is decorated with `@dataclass(frozen=True, kw_only=True)`.
    Attacks that take steps until an image falls: `LoopedAttack`, `GradientAttack`.

        class Brightest(rc.attacks.Attack, name="brightest"):
            def perturb(self, classifier, images, labels, keys):
                return images + self.epsilon

    Args:
        epsilon: radius of the ball; above 1 only for norm "2" (float in (0, 1], default 8/255).
        norm: of the ball ("inf" or "2", default "inf").
        seed: seed of everything random (int >= 0, default 0).

    Raises:
        InputError: a setting, the images, the labels or the model is unusable; a subclass lacks
            a hook, or its name is taken.
    """

    epsilon: Epsilon = 8 / 255
    norm: str = "inf"
    seed: NonNegativeInt = 0

    registry_name: ClassVar[str] = "attack"
    published: ClassVar[tuple[str, ...]] = ()
    known_norms: ClassVar[tuple[str, ...]] = norms.NORMS

    def __init_subclass__(cls, *, name: str | None = None, abstract: bool = False) -> None:
        """Registers the subclass.

        Args:
            name: in `ATTACKS`; the class's in lower case when None.
            abstract: the class is a base of attacks and none itself.
        """
        super().__init_subclass__()
        cls.registry_name = cls.__name__.lower() if name is None else name
        if abstract:
            return
        missing = missing_hooks(cls)
        if cls.run is Attack.run and cls.perturb is Attack.perturb:
            missing = ["perturb"]
        if missing:
            raise InputError(
                f"attack {cls.__name__} must define {', '.join(missing)}; see "
                f"help(robustcls.attacks.{cls.__mro__[1].__name__})."
            )
        ATTACKS.add(cls.registry_name, cls)

    def __post_init__(self) -> None:
        require_decorated(self)
        object.__setattr__(self, "norm", str(self.norm))
        require_norm(self.registry_name, self.norm, self.known_norms)
        check_settings(self)

    @property
    def targeted(self) -> bool:
        """Whether the labels given are classes to reach rather than to leave."""
        return False

    @property
    def name(self) -> str:
        """The name in tables and metrics, for example `fgsm` or `pgd20`."""
        return self.registry_name

    @property
    def answers(self) -> int:
        """How many answers of a model that answers at random are averaged; 1 for other models."""
        return 1

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Attack:
        """Returns the attack with those of `settings` that it has and does not keep `published`.

        Args:
            settings: by name, as a command line gives them for any attack.

        Raises:
            InputError: a setting is unusable.
        """
        own = {field.name for field in dataclasses.fields(cls)} - set(cls.published)
        return cls(**{name: value for name, value in settings.items() if name in own})

    def __call__(
        self,
        model: Any,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        batch_size: PositiveInt = 128,
        progress: bool = False,
        active_set: bool = True,
        checkpoint: Path | str | None = None,
    ) -> AttackResult:
        """Attacks every image.

        Args:
            model: what `adapt` takes: a Keras classifier, float32 images [N, H, W, C] in [0, 1]
                to logits or probabilities [N, classes]; a `.keras` file; a SavedModel; for
                attacks without gradients any function; or what `adapt` returned.
            images: float32 [N, H, W, C] in [0, 1].
            labels: int [N], the true class ids; for a targeted attack, those to reach. Or multi-hot
                rows [N, classes], for a model with a sigmoid for each class or its logits: the
                attack then raises binary cross-entropy summed over the classes, and an image has
                fallen when one class is answered wrong.
            batch_size: images the model sees at a time; the result does not depend on it (int >= 1,
                default 128).
            progress: show a bar with the robust accuracy so far (bool, default False).
            active_set: leave an image alone once it has fallen, and let another take its place in
                the batch. Without, every image goes through every step (bool, default True).
            checkpoint: a folder that keeps the state of the attack, written about every half
                minute. Called again with the same arguments, the attack goes on from there. Attacks
                with other settings, images or labels can share the folder (default None).

        Returns:
            The adversarial images and whether each succeeded.

        Raises:
            InputError: images, labels or model do not fit together; the checkpoint is of
                another model.
        """
        return self.over(
            model,
            images,
            labels,
            epsilons=[self.epsilon],
            batch_size=batch_size,
            progress=progress,
            active_set=active_set,
            checkpoint=checkpoint,
        )[self.epsilon]

    @checked
    def over(
        self,
        model: Any,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        epsilons: Sequence[float],
        batch_size: PositiveInt = 128,
        progress: bool = False,
        active_set: bool = True,
        checkpoint: Path | str | None = None,
    ) -> dict[float, AttackResult]:
        """Attacks every image within balls of several radii, the smallest first.

        An image that fell within a smaller ball is not attacked again: what turned it lies in
        the larger balls too. So robust accuracy falls as epsilon grows by construction, which
        says nothing about the model.

        Args:
            model: a Keras classifier, float32 images [N, H, W, C] in [0, 1] to logits or
                probabilities [N, classes]; a `.keras` file; a SavedModel; for attacks without
                gradients any function; or what `adapt` returned.
            images: float32 [N, H, W, C] in [0, 1].
            labels: int [N], or multi-hot rows [N, classes].
            epsilons: the radii, in place of the attack's own.
            batch_size: images the model sees at a time (int >= 1, default 128).
            progress: show a bar for each radius (bool, default False).
            active_set: leave an image alone once it has fallen, and let another take its place in
                the batch. Without, every image goes through every step (bool, default True).
            checkpoint: a folder that keeps the state of the attack, written about every half
                minute. Called again with the same arguments, the attack goes on from there (default
                None).

        Returns:
            A result for each radius, in ascending order.

        Raises:
            InputError: images, labels or model do not fit together; the checkpoint is of
                another model; or there is no radius.
        """
        if not len(epsilons):
            raise InputError("epsilons must be one or more radii; received none.")
        attacks = [dataclasses.replace(self, epsilon=epsilon) for epsilon in sorted(set(epsilons))]
        folder = None if checkpoint is None else Path(checkpoint)
        options = Options(batch_size, progress, active_set, folder)
        classifier, task = open_task(self, model, images, labels, batch_size, Task)
        results = {}
        with called(f"attack '{self.registry_name}'", type(self)):
            for attack in attacks:
                attack.run(classifier, task, options)
                # The next radius goes on from these arrays; after the last they are the result's.
                found = task.adversarial, task.success, task.passes
                if attack is not attacks[-1]:
                    found = task.adversarial.copy(), task.success.copy(), task.passes.copy()
                results[attack.epsilon] = AttackResult(*found)
        return results

    def perturb(
        self, classifier: Classifier, images: np.ndarray, labels: np.ndarray, keys: np.ndarray
    ) -> np.ndarray:
        """Returns what to try in place of a batch of images, float32 [n, H, W, C].

        The one hook of a simple attack. What it returns is moved into the ball and into [0, 1],
        shown to the model and kept where it comes closer; so it may leave the ball.

        Args:
            classifier: the model: `classifier.predict(images)` are the logits, float32
                [n, classes]; `loss_gradients(classifier, images, labels)` the gradients.
            images: float32 [n, H, W, C] in [0, 1], none of which has fallen yet.
            labels: int64 [n], or multi-hot bool [n, classes].
            keys: uint64 [n], a key for each image that follows from its pixels and the seed.
                `draws.uniform(keys, shape)` and the like draw from them, so that an image gets
                the same whatever batch it is in.
        """
        raise NotImplementedError

    def run(self, classifier: Classifier, task: Task, options: Options) -> None:
        """Attacks the images of `task` that still stand, and notes there what it finds.

        The hook of attacks that do more than to perturb a batch once.

        Args:
            classifier: the model.
            task: the images and what has been found so far.
            options: how to run; nothing there changes what is found.
        """
        perturb_in_batches(self, self.perturb, classifier, task, options)

    def objection(self, classifier: Classifier) -> str | None:
        """Why this attack cannot be run on a model, in one line; None when it can.

        Args:
            classifier: the model.
        """
        return None

    def rivals(self, num_classes: int) -> int:
        """How many classes of each image are aimed at one by one; 0 for none in particular.

        Args:
            num_classes: of the model.
        """
        return 0
