"""The public names, listed once. Each loads on first use."""

from . import corruptions as corruptions
from . import smoothing as smoothing
from . import trust as trust
from .corruptions.corruption import corrupt as corrupt
from .corruptions.corruption import register_corruption as register_corruption
from .corruptions.evaluation import evaluate_corruptions as evaluate_corruptions
from .corruptions.prepared import evaluate_corruption_folder as evaluate_corruption_folder
from .corruptions.registry import CORRUPTIONS as CORRUPTIONS
from .robustness import Evaluation as Evaluation
from .robustness import Measurement as Measurement
from .robustness import evaluate as evaluate
from .runs.comparison import evaluate_models as evaluate_models
from .runs.config import EvaluationConfig as EvaluationConfig

__all__ = [
    "CORRUPTIONS",
    "Evaluation",
    "EvaluationConfig",
    "Measurement",
    "corrupt",
    "corruptions",
    "evaluate",
    "evaluate_corruption_folder",
    "evaluate_corruptions",
    "evaluate_models",
    "register_corruption",
    "smoothing",
    "trust",
]
