"""Image classifiers that survive noise and attacks. Names load on first use."""

import importlib.metadata

import lazy_loader

from robustcls._moved import MOVED, keep_former_names
from robustcls._quiet import quiet_tensorflow
from robustcls.models._registration import register_with_keras

__version__ = importlib.metadata.version("robustcls")
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
keep_former_names(__name__, MOVED)
register_with_keras()
quiet_tensorflow()
