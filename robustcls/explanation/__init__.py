"""Why a classifier decides as it does, and whether the picture of that deserves belief."""

from robustcls.explanation.activation_maximization import class_images
from robustcls.explanation.explainer import METHODS, Explainer
from robustcls.explanation.maps import Maps
from robustcls.explanation.quality.assessment import Quality, assess, randomization, stability
from robustcls.explanation.quality.faithfulness import faithfulness
from robustcls.explanation.reports.report import Explanations, explain

__all__ = [
    "METHODS",
    "Explainer",
    "Explanations",
    "Maps",
    "Quality",
    "assess",
    "class_images",
    "explain",
    "faithfulness",
    "randomization",
    "stability",
]
