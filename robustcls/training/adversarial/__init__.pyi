"""The public names, listed once. Each loads on first use."""

from .loss import adversarial_loss as adversarial_loss
from .neighbours import Neighbours as Neighbours
from .regularization import AdversarialRegularization as AdversarialRegularization

__all__ = [
    "AdversarialRegularization",
    "Neighbours",
    "adversarial_loss",
]
