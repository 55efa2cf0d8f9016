"""Callbacks for `fit` of any Keras model and of the trainers of this package."""

from robustcls.callbacks.robust_accuracy import RobustAccuracy
from robustcls.training.averaging import WeightAverage
from robustcls.training.unfreezing import PlateauUnfreezing
from robustcls.training.watching import FiniteLoss, RobustnessWatch

__all__ = [
    "FiniteLoss",
    "PlateauUnfreezing",
    "RobustAccuracy",
    "RobustnessWatch",
    "WeightAverage",
]
