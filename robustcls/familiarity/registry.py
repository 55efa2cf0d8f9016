"""The methods of familiarity by the names that the command line uses; a user's own follow."""

from __future__ import annotations

from typing import Any

from robustcls._registry import Registry

_HERE = "robustcls.familiarity.methods"

METHODS: Registry[Any] = Registry(
    "familiarity method",
    {
        "vim": f"{_HERE}.vim:ViM",
        "knn": f"{_HERE}.knn:KNN",
        "mahalanobis": f"{_HERE}.mahalanobis:Mahalanobis",
        "fdbd": f"{_HERE}.fdbd:FDBD",
        "energy": f"{_HERE}.energy:Energy",
        "msp": f"{_HERE}.msp:MSP",
    },
)
"""Subclasses of `FamiliarityMethod`, which add themselves."""
