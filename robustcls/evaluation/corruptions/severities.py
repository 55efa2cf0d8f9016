"""How strong each corruption is, by scale and severity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robustcls.data import noise

NOISE_CORRUPTIONS: Mapping[str, str] = {
    "gaussian": "gaussian_noise",
    "poisson": "shot_noise",
    "salt_and_pepper": "impulse_noise",
    "speckle": "speckle_noise",
}
"""The published name of each of `robustcls.data.noise.NOISES`."""


# Of no published set; the same for all scales.
_SCENES: dict[str, tuple[Any, ...]] = {
    "background": (0.2, 0.4, 0.6, 0.8, 1.0),
    "occlusion": (0.05, 0.1, 0.15, 0.2, 0.3),
}
_SMALL_ZOOMS = ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01))


def _with_noises(scale: str, others: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    noises: dict[str, tuple[Any, ...]] = {
        published: noise.SEVERITIES[scale][name] for name, published in NOISE_CORRUPTIONS.items()
    }
    return noises | others | _SCENES


SCALES = ("cifar_c", "tiny_imagenet_c", "imagenet_c")

SEVERITIES: dict[str, dict[str, tuple[Any, ...]]] = {
    "cifar_c": _with_noises(
        "cifar_c",
        {
            "gaussian_blur": (0.4, 0.6, 0.7, 0.8, 1),
            "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
            "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
            "motion_blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
            "zoom_blur": _SMALL_ZOOMS,
            "snow": (
                (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
                (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
                (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
                (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
                (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
            ),
            "frost": ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
            "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
            "spatter": (
                (0.62, 0.1, 0.7, 0.7, 0.5, 0),
                (0.65, 0.1, 0.8, 0.7, 0.5, 0),
                (0.65, 0.3, 1, 0.69, 0.5, 0),
                (0.65, 0.1, 0.7, 0.69, 0.6, 1),
                (0.65, 0.1, 0.5, 0.68, 0.6, 1),
            ),
            "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
            "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
            "saturate": ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
            "elastic_transform": (
                (0, 0, 0.08),
                (0.05, 0.2, 0.07),
                (0.08, 0.06, 0.06),
                (0.1, 0.04, 0.05),
                (0.1, 0.03, 0.03),
            ),
            "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),
            "jpeg_compression": (80, 65, 58, 50, 40),
        },
    ),
    "tiny_imagenet_c": _with_noises(
        "tiny_imagenet_c",
        {
            "gaussian_blur": (0.5, 0.75, 1, 1.25, 1.5),
            "defocus_blur": ((0.5, 0.6), (1, 0.1), (1.5, 0.1), (2.5, 0.01), (3, 0.1)),
            "glass_blur": ((0.1, 1, 1), (0.5, 1, 1), (0.6, 1, 2), (0.7, 2, 1), (0.9, 2, 2)),
            "motion_blur": ((10, 1), (10, 1.5), (10, 2), (10, 2.5), (12, 3)),
            "zoom_blur": _SMALL_ZOOMS,
            "snow": (
                (0.1, 0.2, 1, 0.6, 8, 3, 0.8),
                (0.1, 0.2, 1, 0.5, 10, 4, 0.8),
                (0.15, 0.3, 1.75, 0.55, 10, 4, 0.7),
                (0.25, 0.3, 2.25, 0.6, 12, 6, 0.65),
                (0.3, 0.3, 1.25, 0.65, 14, 12, 0.6),
            ),
            "frost": ((1, 0.3), (0.9, 0.4), (0.8, 0.45), (0.75, 0.5), (0.7, 0.55)),
            "spatter": (
                (0.62, 0.1, 0.7, 0.7, 0.6, 0),
                (0.65, 0.1, 0.8, 0.7, 0.6, 0),
                (0.65, 0.3, 1, 0.69, 0.6, 0),
                (0.65, 0.1, 0.7, 0.68, 0.6, 1),
                (0.65, 0.1, 0.5, 0.67, 0.6, 1),
            ),
            "fog": ((0.4, 3), (0.7, 3), (1, 2.5), (1.5, 2), (2, 1.75)),
            "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
            "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
            "saturate": ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (30, 0.2)),
            "elastic_transform": (
                (0, 0, 0.08),
                (0.05, 0.3, 0.06),
                (0.1, 0.08, 0.06),
                (0.1, 0.03, 0.03),
                (0.16, 0.03, 0.02),
            ),
            "pixelate": (0.9, 0.8, 0.7, 0.6, 0.5),
            "jpeg_compression": (65, 58, 50, 40, 25),
        },
    ),
    "imagenet_c": _with_noises(
        "imagenet_c",
        {
            "gaussian_blur": (1, 2, 3, 4, 6),
            "defocus_blur": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
            "glass_blur": ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
            "motion_blur": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
            "zoom_blur": ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
            "snow": (
                (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
                (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
                (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
                (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
                (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
            ),
            "frost": ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
            "spatter": (
                (0.65, 0.3, 4, 0.69, 0.6, 0),
                (0.65, 0.3, 3, 0.68, 0.6, 0),
                (0.65, 0.3, 2, 0.68, 0.5, 0),
                (0.65, 0.3, 1, 0.65, 1.5, 1),
                (0.67, 0.4, 1, 0.65, 1.5, 1),
            ),
            "fog": ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
            "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
            "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
            "saturate": ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
            "elastic_transform": tuple(
                # The published code counts 244 pixels a side where there are 224.
                tuple(244 / 224 * share for share in shares)
                for shares in (
                    (2, 0.7, 0.1),
                    (2, 0.08, 0.2),
                    (0.05, 0.01, 0.02),
                    (0.07, 0.01, 0.02),
                    (0.12, 0.01, 0.02),
                )
            ),
            "pixelate": (0.6, 0.5, 0.4, 0.3, 0.25),
            "jpeg_compression": (25, 18, 15, 10, 7),
        },
    ),
}
"""Strengths for severity 1 to 5 by scale and corruption; where there are two numbers, the
arguments of that name's function in their order, for fog thickness and decay."""
