"""The public names, listed once. Each loads on first use."""

from . import objectives as objectives
from .adversarial import AdversarialRegularization as AdversarialRegularization
from .adversarial import adversarial_loss as adversarial_loss
from .averaging import WeightAverage as WeightAverage
from .config import TrainConfig as TrainConfig
from .fit import train as train
from .robust_trainer import RobustTrainer as RobustTrainer
from .unfreezing import PlateauUnfreezing as PlateauUnfreezing
from .watching import RobustnessWatch as RobustnessWatch

__all__ = [
    "AdversarialRegularization",
    "PlateauUnfreezing",
    "RobustTrainer",
    "RobustnessWatch",
    "TrainConfig",
    "WeightAverage",
    "adversarial_loss",
    "objectives",
    "train",
]
