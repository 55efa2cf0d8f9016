"""The attacks by the names that the command lines use; a user's own follow the built-in ones."""

from __future__ import annotations

from typing import Any

from robustcls._registry import Registry

ATTACKS: Registry[Any] = Registry(
    "attack",
    {
        "fgsm": "robustcls.attacks.fgsm:FGSM",
        "pgd": "robustcls.attacks.pgd:PGD",
        "apgd": "robustcls.attacks.apgd:APGD",
        "fab": "robustcls.attacks.fab:FAB",
        "square": "robustcls.attacks.square:Square",
        "autoattack": "robustcls.attacks.auto_attack:AutoAttack",
    },
    reserved=("none",),
)
"""Subclasses of `Attack`, which add themselves."""
