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
        "glass_blur": f"{_HERE}:_glass_blur",
        "motion_blur": f"{_HERE}:_motion_blur",
        "zoom_blur": f"{_HERE}:_zoom_blur",
        "snow": f"{_HERE}:_snow",
        "frost": f"{_HERE}:_frost",
        "fog": f"{_HERE}:_fog",
        "spatter": f"{_HERE}:_spatter",
        "brightness": f"{_HERE}:_brightness",
        "contrast": f"{_HERE}:_contrast",
        "saturate": f"{_HERE}:_saturate",
        "elastic_transform": f"{_HERE}:_elastic_transform",
        "pixelate": f"{_HERE}:_pixelate",
        "jpeg_compression": f"{_HERE}:_jpeg_compression",
        "background": f"{_HERE}:_background",
        "occlusion": f"{_HERE}:_occlusion",
    },
    reserved=("cifar_c", "tiny_imagenet_c", "imagenet_c"),
)
"""The functions `corruption(images, strength, seed)`. Images are a float32 tensor [N, H, W, C] in
[0, 1], a strength one of `SEVERITIES`, a seed int32 or int64 [2]."""

PUBLISHED = tuple(name for name in CORRUPTIONS if name not in ("background", "occlusion"))
"""Those of the three benchmarks, which a scale stands for: mCE's fifteen and the four `EXTRA`."""

EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""Of the benchmarks, but not of mCE."""
