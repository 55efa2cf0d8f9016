from .augmix import AugMix as AugMix
from .fgsm import NoiseFGSM as NoiseFGSM
from .fgsm import RandomStartFGSM as RandomStartFGSM
from .free import FreeTraining as FreeTraining
from .interval import IBP as IBP
from .interval import CrownIBP as CrownIBP
from .mart import MART as MART
from .neighbours import NeighbourRegularization as NeighbourRegularization
from .noise import NoiseTraining as NoiseTraining
from .objective import Batch as Batch
from .objective import Objective as Objective
from .objective import cross_entropy as cross_entropy
from .objective import divergence as divergence
from .pgd import PGDTraining as PGDTraining
from .registry import OBJECTIVES as OBJECTIVES
from .trades import TRADES as TRADES

__all__ = [
    "IBP",
    "MART",
    "OBJECTIVES",
    "TRADES",
    "AugMix",
    "Batch",
    "CrownIBP",
    "FreeTraining",
    "NeighbourRegularization",
    "NoiseFGSM",
    "NoiseTraining",
    "Objective",
    "PGDTraining",
    "RandomStartFGSM",
    "cross_entropy",
    "divergence",
]
