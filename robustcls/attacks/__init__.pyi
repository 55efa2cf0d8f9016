"""The public names, listed once. Each loads on first use."""

from . import draws as draws
from . import losses as losses
from . import norms as norms
from .auto_pgd.apgd import APGD as APGD
from .base import Attack as Attack
from .base import Classifier as Classifier
from .base import adapt as adapt
from .fgsm import FGSM as FGSM
from .gradient import GradientAttack as GradientAttack
from .gradient import Rule as Rule
from .gradient import loss_gradients as loss_gradients
from .loop import LoopedAttack as LoopedAttack
from .minimum_norm.ddn import DDN as DDN
from .minimum_norm.fab import FAB as FAB
from .minimum_norm.fmn import FMN as FMN
from .minimum_norm.nearest import MinimumNormAttack as MinimumNormAttack
from .minimum_norm.nearest import Nearest as Nearest
from .pgd import PGD as PGD
from .registry import ATTACKS as ATTACKS
from .square import Square as Square
from .suites.auto_attack import AutoAttack as AutoAttack
from .suites.fast import Fast as Fast
from .task import AttackResult as AttackResult
from .task import Batch as Batch

__all__ = [
    "APGD",
    "ATTACKS",
    "DDN",
    "FAB",
    "FGSM",
    "FMN",
    "PGD",
    "Attack",
    "AttackResult",
    "AutoAttack",
    "Batch",
    "Classifier",
    "Fast",
    "GradientAttack",
    "LoopedAttack",
    "MinimumNormAttack",
    "Nearest",
    "Rule",
    "Square",
    "adapt",
    "draws",
    "loss_gradients",
    "losses",
    "norms",
]
