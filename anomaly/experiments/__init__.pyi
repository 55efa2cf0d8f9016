"""The public names, listed once. Each loads on first use."""

from .runs import evaluate_detector as evaluate_detector
from .runs import load_detector as load_detector
from .runs import open_detector_run as open_detector_run
from .runs import train_detector as train_detector

__all__ = [
    "evaluate_detector",
    "load_detector",
    "open_detector_run",
    "train_detector",
]
