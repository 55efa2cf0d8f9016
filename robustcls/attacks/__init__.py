"""Attacks on classifiers: images in, adversarial images out."""

from robustcls.attacks.base import Attack, AttackResult
from robustcls.attacks.fgsm import FGSM
from robustcls.attacks.pgd import PGD

__all__ = ["FGSM", "PGD", "Attack", "AttackResult"]
