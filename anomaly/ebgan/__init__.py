"""EBGAN: an autoencoder as the energy that a generator is trained against."""

from anomaly.ebgan.detector import EBGAN, build_autoencoder, build_generator

__all__ = ["EBGAN", "build_autoencoder", "build_generator"]
