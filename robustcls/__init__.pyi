"""The public names, listed once. Each loads on first use."""

from . import attacks as attacks
from . import callbacks as callbacks
from . import distribution as distribution
from . import familiarity as familiarity
from . import plots as plots
from ._validation import InputError as InputError
from .data.augment import AugmentationPolicy as AugmentationPolicy
from .data.pipeline import evaluation_batches as evaluation_batches
from .data.pipeline import train_batches as train_batches
from .data.sources import load as load
from .data.splits import Split as Split
from .data.splits import Splits as Splits
from .evaluation.corruptions.corruption import register_corruption as register_corruption
from .evaluation.robustness import evaluate as evaluate
from .explanation.explainer import Explainer as Explainer
from .explanation.methods.registry import register_explanation as register_explanation
from .explanation.reports.report import explain as explain
from .models.backbones import register_backbone as register_backbone
from .models.building import build_classifier as build_classifier
from .models.building import load_classifier as load_classifier
from .models.normalization import FusedBatchNormalization as FusedBatchNormalization
from .models.stock import save_classifier as save_classifier
from .models.zoo.loading import load_pretrained as load_pretrained
from .serving import export as export
from .training import objectives as objectives
from .training.adversarial import AdversarialRegularization as AdversarialRegularization
from .training.adversarial import adversarial_loss as adversarial_loss
from .training.averaging import WeightAverage as WeightAverage
from .training.robust_trainer import RobustTrainer as RobustTrainer
from .training.unfreezing import PlateauUnfreezing as PlateauUnfreezing
from .training.watching import RobustnessWatch as RobustnessWatch

__all__ = [
    "AdversarialRegularization",
    "AugmentationPolicy",
    "Explainer",
    "FusedBatchNormalization",
    "InputError",
    "PlateauUnfreezing",
    "RobustTrainer",
    "RobustnessWatch",
    "Split",
    "Splits",
    "WeightAverage",
    "adversarial_loss",
    "attacks",
    "build_classifier",
    "callbacks",
    "distribution",
    "evaluate",
    "evaluation_batches",
    "explain",
    "export",
    "familiarity",
    "load",
    "load_classifier",
    "load_pretrained",
    "objectives",
    "plots",
    "register_backbone",
    "register_corruption",
    "register_explanation",
    "save_classifier",
    "train_batches",
]
