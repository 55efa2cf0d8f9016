"""What a classifier is worth on clean, noisy and attacked images."""

from robustcls.evaluation.robustness import Evaluation, Measurement, evaluate

__all__ = ["Evaluation", "Measurement", "evaluate"]
