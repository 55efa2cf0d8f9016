"""The public names, listed once. Each loads on first use."""

from .activation_maximization import class_images as class_images
from .explainer import Explainer as Explainer
from .methods.gradients import class_gradients as class_gradients
from .methods.maps import Maps as Maps
from .methods.registry import METHODS as METHODS
from .methods.registry import register_explanation as register_explanation
from .quality.assessment import Quality as Quality
from .quality.assessment import assess as assess
from .quality.assessment import randomization as randomization
from .quality.assessment import stability as stability
from .quality.faithfulness import faithfulness as faithfulness
from .quality.measures.registry import MEASURES as MEASURES
from .quality.table import QualityTable as QualityTable
from .quality.table import quality_table as quality_table
from .reports.report import Explanations as Explanations
from .reports.report import explain as explain

__all__ = [
    "MEASURES",
    "METHODS",
    "Explainer",
    "Explanations",
    "Maps",
    "Quality",
    "QualityTable",
    "assess",
    "class_gradients",
    "class_images",
    "explain",
    "faithfulness",
    "quality_table",
    "randomization",
    "register_explanation",
    "stability",
]
