"""All training objectives by name."""

from __future__ import annotations

from typing import Any

from robustcls._registry import Registry

_ROOM = "robustcls.training.objectives."

#: The class of each objective by its name; those of users are added when they are defined.
OBJECTIVES: Registry[Any] = Registry(
    "objective",
    {
        "nsl": _ROOM + "neighbours:NeighbourRegularization",
        "pgd": _ROOM + "pgd:PGDTraining",
        "fgsm_rs": _ROOM + "fgsm:RandomStartFGSM",
        "n_fgsm": _ROOM + "fgsm:NoiseFGSM",
        "free": _ROOM + "free:FreeTraining",
        "trades": _ROOM + "trades:TRADES",
        "mart": _ROOM + "mart:MART",
        "noise": _ROOM + "noise:NoiseTraining",
        "augmix": _ROOM + "augmix:AugMix",
        "ibp": _ROOM + "interval:IBP",
        "crown_ibp": _ROOM + "interval:CrownIBP",
    },
    reserved=("base", "adversarial"),
)
