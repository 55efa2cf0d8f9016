"""Certificates by randomized smoothing."""

from robustcls.evaluation.smoothing.randomized import (
    ABSTAINED,
    Certification,
    certify,
    radius_of,
)

__all__ = ["ABSTAINED", "Certification", "certify", "radius_of"]
