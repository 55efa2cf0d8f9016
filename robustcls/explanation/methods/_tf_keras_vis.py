"""Imports tf-keras-vis without its warnings; the only module that does.

tf-keras-vis 0.8 takes `zoom` from a name that SciPy has deprecated.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from tf_keras_vis.activation_maximization import ActivationMaximization
    from tf_keras_vis.activation_maximization.regularizers import TotalVariation2D

__all__ = [
    "ActivationMaximization",
    "TotalVariation2D",
]
