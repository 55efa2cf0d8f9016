"""Corruptions of images, and what a classifier is worth on them."""

from robustcls.evaluation.corruptions.corruption import (
    CORRUPTIONS,
    NOISE_CORRUPTIONS,
    SEVERITIES,
    corrupt,
)

__all__ = ["CORRUPTIONS", "NOISE_CORRUPTIONS", "SEVERITIES", "corrupt"]
