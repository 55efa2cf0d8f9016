"""The public names, listed once. Each loads on first use."""

from .curves import robustness_curve as robustness_curve
from .curves import training_curves as training_curves
from .images import confusion_matrix as confusion_matrix
from .images import gallery as gallery
from .scores import score_histogram as score_histogram

__all__ = [
    "confusion_matrix",
    "gallery",
    "robustness_curve",
    "score_histogram",
    "training_curves",
]
