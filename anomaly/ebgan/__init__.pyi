"""The public names, listed once. Each loads on first use."""

from .detector import EBGAN as EBGAN
from .detector import build_autoencoder as build_autoencoder
from .detector import build_generator as build_generator

__all__ = [
    "EBGAN",
    "build_autoencoder",
    "build_generator",
]
