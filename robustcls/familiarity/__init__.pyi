"""The public names, listed once. Each loads on first use."""

from .evaluation import evaluate as evaluate
from .familiarity import Familiarity as Familiarity
from .fitting import fit as fit
from .loading import load as load
from .method import FamiliarityMethod as FamiliarityMethod
from .method import Known as Known
from .methods.energy import Energy as Energy
from .methods.fdbd import FDBD as FDBD
from .methods.knn import KNN as KNN
from .methods.mahalanobis import Mahalanobis as Mahalanobis
from .methods.msp import MSP as MSP
from .methods.vim import ViM as ViM
from .registry import METHODS as METHODS
from .results import FamiliarityReport as FamiliarityReport

__all__ = [
    "FDBD",
    "KNN",
    "METHODS",
    "MSP",
    "Energy",
    "Familiarity",
    "FamiliarityMethod",
    "FamiliarityReport",
    "Known",
    "Mahalanobis",
    "ViM",
    "evaluate",
    "fit",
    "load",
]
