"""The attacks by the names that the command lines use; a user's own follow the built-in ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from robustcls._registry import Registry
from robustcls._validation import InputError, check_choice

ATTACKS: Registry[Any] = Registry(
    "attack",
    {
        "fgsm": "robustcls.attacks.fgsm:FGSM",
        "pgd": "robustcls.attacks.pgd:PGD",
        "apgd": "robustcls.attacks.auto_pgd.apgd:APGD",
        "fab": "robustcls.attacks.minimum_norm.fab:FAB",
        "fmn": "robustcls.attacks.minimum_norm.fmn:FMN",
        "ddn": "robustcls.attacks.minimum_norm.ddn:DDN",
        "square": "robustcls.attacks.square:Square",
        "fast": "robustcls.attacks.suites.fast:Fast",
        "autoattack": "robustcls.attacks.suites.auto_attack:AutoAttack",
    },
    reserved=("none",),
)
"""Subclasses of `Attack`, which add themselves."""


def missing_hooks(kind: type) -> list[str]:
    """Returns the abstract methods that a class of attacks has not defined."""
    return [
        hook for hook in dir(kind) if getattr(getattr(kind, hook), "__isabstractmethod__", False)
    ]


def require_decorated(attack: Any) -> None:
    """Raises `InputError` when a setting of an attack's class has not become a field."""
    for setting, kind in vars(type(attack)).get("__annotations__", {}).items():
        if setting not in vars(attack) and "ClassVar" not in str(kind):
            raise InputError(
                f"attack {type(attack).__name__} must be decorated with @dataclass(frozen=True, "
                f"kw_only=True) for its setting {setting!r}."
            )


def require_norm(name: str, norm: str, known: Sequence[str]) -> None:
    """Raises `InputError` when an attack has no ball in a norm; names those that have.

    Args:
        name: of the attack.
        norm: what came.
        known: those that the attack has.
    """
    others = [other for other in ATTACKS if norm in ATTACKS[other].known_norms]
    if norm in known or not others:
        check_choice("norm", norm, known)
        return
    raise InputError(
        f"norm must be one of {', '.join(sorted(known))} for {name}; received {norm!r}, which "
        f"{', '.join(others)} know."
    )
