"""Image classifiers that survive noise and attacks. Names load on first use."""

from __future__ import annotations

import importlib
import sys
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robustcls import attacks as attacks
    from robustcls._validation import InputError as InputError
    from robustcls.data.augment import AugmentationPolicy as AugmentationPolicy
    from robustcls.data.pipeline import evaluation_batches as evaluation_batches
    from robustcls.data.pipeline import train_batches as train_batches
    from robustcls.data.sources import load as load
    from robustcls.data.splits import Split as Split
    from robustcls.data.splits import Splits as Splits
    from robustcls.evaluation.robustness import evaluate as evaluate
    from robustcls.explanation.explainer import Explainer as Explainer
    from robustcls.explanation.report import explain as explain
    from robustcls.models.classifier import build_classifier as build_classifier
    from robustcls.models.classifier import load_classifier as load_classifier
    from robustcls.models.normalization import FusedBatchNormalization as FusedBatchNormalization
    from robustcls.serving.exporting import export as export
    from robustcls.training.adversarial import (
        AdversarialRegularization as AdversarialRegularization,
    )
    from robustcls.training.unfreezing import PlateauUnfreezing as PlateauUnfreezing

_HOMES = {
    "AdversarialRegularization": "training.adversarial",
    "AugmentationPolicy": "data.augment",
    "Explainer": "explanation.explainer",
    "FusedBatchNormalization": "models.normalization",
    "InputError": "_validation",
    "PlateauUnfreezing": "training.unfreezing",
    "Split": "data.splits",
    "Splits": "data.splits",
    "build_classifier": "models.classifier",
    "evaluate": "evaluation.robustness",
    "explain": "explanation.report",
    "evaluation_batches": "data.pipeline",
    "export": "serving",
    "load": "data.sources",
    "load_classifier": "models.classifier",
    "train_batches": "data.pipeline",
}
__all__ = [*_HOMES, "attacks"]


def __getattr__(name: str) -> Any:
    if name == "attacks":
        return importlib.import_module("robustcls.attacks")
    if name not in _HOMES:
        raise AttributeError(f"module 'robustcls' has no attribute {name!r}")
    return getattr(importlib.import_module(f"robustcls.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)


# Keras finds the layers of a saved model only when they are imported, so `import robustcls` does
# that. It takes TensorFlow's seconds, for which nobody should wait at `robustcls --help`; the
# commands import what they need.
if PurePath(sys.argv[0] if sys.argv else "").name not in ("robustcls", "anomaly"):
    importlib.import_module("robustcls.models.normalization")
