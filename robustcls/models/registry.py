"""The backbones by the names that `build_classifier` takes; a user's own follow."""

from __future__ import annotations

from typing import Any

from robustcls._registry import Registry

_HERE = "robustcls.models.backbones"

BACKBONES: Registry[Any] = Registry(
    "backbone",
    {
        "mobilenet_v2": f"{_HERE}:MOBILENET_V2",
        "densenet121": f"{_HERE}:DENSENET121",
        "nasnet_mobile": f"{_HERE}:NASNET_MOBILE",
        "efficientnet_b2": f"{_HERE}:EFFICIENTNET_B2",
        "efficientnet_b4": f"{_HERE}:EFFICIENTNET_B4",
        "efficientnet_b6": f"{_HERE}:EFFICIENTNET_B6",
        "efficientnet_lite0": f"{_HERE}:EFFICIENTNET_LITE0",
        "resnext50": f"{_HERE}:RESNEXT50",
    },
)
"""A `Backbone` each; see `register_backbone`."""
