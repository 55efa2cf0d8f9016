"""Detectors of images that are not like the normal ones. Names load on first use."""

import lazy_loader

from anomaly._moved import MOVED
from robustcls._moved import keep_former_names

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
keep_former_names(__name__, MOVED)
