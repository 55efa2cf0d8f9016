"""The public names, listed once. Each loads on first use."""

from .activation_maximization import class_images as class_images
from .concepts.concepts import Concepts as Concepts
from .concepts.concepts import find_concepts as find_concepts
from .examples.counterfactuals import Counterfactuals as Counterfactuals
from .examples.counterfactuals import counterfactuals as counterfactuals
from .examples.neighbors import Neighbors as Neighbors
from .examples.neighbors import nearest_images as nearest_images
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
from .reports.figure import export_figure as export_figure
from .reports.report import Explanations as Explanations
from .reports.report import explain as explain

__all__ = [
    "MEASURES",
    "METHODS",
    "Concepts",
    "Counterfactuals",
    "Explainer",
    "Explanations",
    "Maps",
    "Neighbors",
    "Quality",
    "QualityTable",
    "assess",
    "class_gradients",
    "class_images",
    "counterfactuals",
    "explain",
    "export_figure",
    "faithfulness",
    "find_concepts",
    "nearest_images",
    "quality_table",
    "randomization",
    "register_explanation",
    "stability",
]
