"""The public names, listed once. Each loads on first use."""

from .detector import OGNet as OGNet
from .networks import build_discriminator as build_discriminator
from .networks import build_generator as build_generator

__all__ = [
    "OGNet",
    "build_discriminator",
    "build_generator",
]
