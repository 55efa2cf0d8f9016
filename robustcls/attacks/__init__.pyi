"""The public names, listed once. Each loads on first use."""

from . import draws as draws
from . import losses as losses
from . import norms as norms
from .apgd import APGD as APGD
from .auto_attack import AutoAttack as AutoAttack
from .base import Attack as Attack
from .base import Classifier as Classifier
from .base import adapt as adapt
from .fab import FAB as FAB
from .fgsm import FGSM as FGSM
from .gradient import GradientAttack as GradientAttack
from .gradient import Rule as Rule
from .gradient import loss_gradients as loss_gradients
from .loop import LoopedAttack as LoopedAttack
from .pgd import PGD as PGD
from .registry import ATTACKS as ATTACKS
from .square import Square as Square
from .task import AttackResult as AttackResult
from .task import Batch as Batch

__all__ = [
    "APGD",
    "ATTACKS",
    "FAB",
    "FGSM",
    "PGD",
    "Attack",
    "AttackResult",
    "AutoAttack",
    "Batch",
    "Classifier",
    "GradientAttack",
    "LoopedAttack",
    "Rule",
    "Square",
    "adapt",
    "draws",
    "loss_gradients",
    "losses",
    "norms",
]
