"""All settings of an evaluation; each is a YAML key and a command-line flag."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from robustcls._settings import (
    Choice,
    Epsilon,
    NonNegativeInt,
    PositiveInt,
    Severity,
    check_settings,
)
from robustcls._validation import InputError, check_choice
from robustcls.attacks.registry import ATTACKS

ATTACK_SETTINGS = (
    *("epsilon", "norm", "steps", "restarts", "queries"),
    *("version", "samples", "seed"),
)
"""The settings that an attack takes where it has them, see `Attack.from_settings`."""


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What to measure, and how.

    Args:
        attack: one or more names of attacks, or none (default ("fgsm", "pgd")).
        epsilon: radius of the ball for images in [0, 1] (float in (0, 1], default 8/255).
        norm: of the ball, inf, 2, 1 or 0, where the attacks know it ("inf", "2", "1" or "0",
            default "inf").
        steps: steps of PGD (int >= 1, default 20).
        restarts: random starts of PGD (int >= 1, default 1).
        queries: of Square, alone and in AutoAttack (int >= 1, default 5000).
        version: of AutoAttack, standard, or rand for models that answer at random ("standard" or
            "rand", default "standard").
        samples: for models that answer at random, answers that a step of PGD, APGD or AutoAttack's
            version rand averages; left out, 20 for that version and 1 for the others (int >= 1 or
            None, default None).
        limit: attack and corrupt a random subset of at most that many images; all when left out.
            Clean images and the three noises are always measured on all (int >= 1 or None, default
            None).
        curve_limit: images attacked for each point of the curve over epsilon; 0 draws none (int >=
            0, default 256).
        noise_scale: of the three noises: cifar_c, tiny_imagenet_c or imagenet_c (str, default
            "cifar_c").
        severity: severity of the three noises (int in [1, 5], default 5).
        corruptions: measure all corruptions at all severities of a scale, cifar_c, tiny_imagenet_c
            or imagenet_c; or a folder of .npy files as those of CIFAR-10-C (str or None, default
            None).
        trust: check whether the figures under attack can be believed (bool, default False).
        trust_images: images for those checks (int >= 1, default 256).
        batch_size: images a forward pass (int >= 1, default 128).
        seed: seed of noises, corruptions, subsets and attacks (int >= 0, default 0).

    Raises:
        InputError: a setting is unusable.
    """

    attack: tuple[str, ...] | str = ("fgsm", "pgd")
    epsilon: Epsilon = 8 / 255
    norm: Annotated[str, Choice(("inf", "2", "1", "0"))] = "inf"
    steps: PositiveInt = 20
    restarts: PositiveInt = 1
    queries: PositiveInt = 5000
    version: Annotated[str, Choice(("standard", "rand"))] = "standard"
    samples: PositiveInt | None = None
    limit: PositiveInt | None = None
    curve_limit: NonNegativeInt = 256
    noise_scale: str = "cifar_c"
    severity: Severity = 5
    corruptions: str | None = None
    trust: bool = False
    trust_images: PositiveInt = 256
    batch_size: PositiveInt = 128
    seed: NonNegativeInt = 0

    def __post_init__(self) -> None:
        if not self.attacks and "none" not in self.attack:
            raise InputError(f"attack must be one or more of {', '.join(ATTACKS)}; received none.")
        for name in self.attacks:
            check_choice("attack", name, ATTACKS)
        # Scales are looked up where the images are corrupted, which takes TensorFlow.
        check_settings(self)

    @property
    def attacks(self) -> tuple[str, ...]:
        """The names in `attack`, each once; none for `none`."""
        given = self.attack.split(",") if isinstance(self.attack, str) else self.attack
        names = (name.strip().lower() for name in given)
        found = tuple(dict.fromkeys(name for name in names if name))
        return () if found == ("none",) else found
