"""Training with adversarial neighbours, as Neural Structured Learning has it. Names load late."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
