"""What a classifier is worth on clean, corrupted and attacked images, and whether to believe it.

Names load on first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
