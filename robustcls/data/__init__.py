"""Where images come from and what happens to them before a model sees them."""

from robustcls.data.augment import AugmentationPolicy
from robustcls.data.catalog import KnownSet, list_datasets
from robustcls.data.contact_sheet import contact_sheet
from robustcls.data.pipeline import ImageSource, evaluation_batches, train_batches
from robustcls.data.preparing import prepare
from robustcls.data.sources import load
from robustcls.data.splits import Split, Splits

__all__ = [
    "AugmentationPolicy",
    "ImageSource",
    "KnownSet",
    "Split",
    "Splits",
    "contact_sheet",
    "evaluation_batches",
    "list_datasets",
    "load",
    "prepare",
    "train_batches",
]
