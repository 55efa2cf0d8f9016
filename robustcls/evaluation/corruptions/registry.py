"""The corruptions by their published names; a user's own follow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from robustcls._registry import Registry

_HERE = "robustcls.evaluation.corruptions.corruption"

CORRUPTIONS: Registry[Callable[[Any, Any, Any], Any]] = Registry(
    "corruption",
    {
        "gaussian_noise": "robustcls.data.noise:gaussian",
        "shot_noise": "robustcls.data.noise:poisson",
        "impulse_noise": "robustcls.data.noise:salt_and_pepper",
        "speckle_noise": "robustcls.data.noise:speckle",
        "gaussian_blur": f"{_HERE}:_gaussian_blur",
        "defocus_blur": f"{_HERE}:_defocus_blur",
        "motion_blur": f"{_HERE}:_motion_blur",
        "fog": f"{_HERE}:_fog",
        "brightness": f"{_HERE}:_brightness",
        "contrast": f"{_HERE}:_contrast",
        "saturate": f"{_HERE}:_saturate",
        "pixelate": f"{_HERE}:_pixelate",
        "jpeg_compression": f"{_HERE}:_jpeg_compression",
    },
    reserved=("cifar_c", "tiny_imagenet_c", "imagenet_c"),
)
"""The functions `corruption(images, strength, seed)`. Images are a float32 tensor [N, H, W, C] in
[0, 1], a strength one of `SEVERITIES`, a seed int32 or int64 [2]."""
