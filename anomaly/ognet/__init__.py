"""OGNet: a generator young and old, and what tells them apart."""

from anomaly.ognet.detector import OGNet, build_discriminator, build_generator

__all__ = ["OGNet", "build_discriminator", "build_generator"]
