"""Where images come from and what happens to them before a model sees them."""

from robustcls.data.augment import AugmentationPolicy
from robustcls.data.pipeline import evaluation_batches, train_batches
from robustcls.data.sources import load
from robustcls.data.splits import Split, Splits

__all__ = ["AugmentationPolicy", "Split", "Splits", "evaluation_batches", "load", "train_batches"]
