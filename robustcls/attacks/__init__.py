"""Attacks on classifiers: images in, adversarial images out."""

from robustcls.attacks.adapters import adapt
from robustcls.attacks.apgd import APGD
from robustcls.attacks.auto_attack import AutoAttack
from robustcls.attacks.base import Attack, AttackResult
from robustcls.attacks.classifier import Classifier
from robustcls.attacks.fab import FAB
from robustcls.attacks.fgsm import FGSM
from robustcls.attacks.pgd import PGD
from robustcls.attacks.square import Square

__all__ = [
    "APGD",
    "FAB",
    "FGSM",
    "PGD",
    "Attack",
    "AttackResult",
    "AutoAttack",
    "Classifier",
    "Square",
    "adapt",
]
