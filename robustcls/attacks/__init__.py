"""Attacks on classifiers: images in, adversarial images out."""

from robustcls.attacks.apgd import APGD
from robustcls.attacks.auto_attack import AutoAttack
from robustcls.attacks.base import Attack, AttackResult
from robustcls.attacks.fab import FAB
from robustcls.attacks.fgsm import FGSM
from robustcls.attacks.pgd import PGD
from robustcls.attacks.square import Square
from robustcls.classifiers.adapters import adapt
from robustcls.classifiers.classifier import Classifier

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
