"""Figures of trainings, evaluations and detectors, for notebooks and papers.

Every function returns a `matplotlib.figure.Figure`: a notebook shows it, `savefig` writes it.
Names load on first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
