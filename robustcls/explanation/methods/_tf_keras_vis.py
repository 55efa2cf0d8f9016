"""Imports tf-keras-vis without its warnings; the only module that does.

tf-keras-vis 0.8 takes `zoom` from a name that SciPy has deprecated.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from tf_keras_vis.activation_maximization import ActivationMaximization
    from tf_keras_vis.activation_maximization.regularizers import TotalVariation2D
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.gradcam_plus_plus import GradcamPlusPlus
    from tf_keras_vis.layercam import Layercam

__all__ = [
    "ActivationMaximization",
    "Gradcam",
    "GradcamPlusPlus",
    "Layercam",
    "TotalVariation2D",
]
