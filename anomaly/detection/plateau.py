"""`Plateau`: ends a training once held-out normal images are not reconstructed better any more."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np


class Plateau(keras.callbacks.Callback):
    """Stops after epochs without a lower `val_loss`, which takes no labels.

    Args:
        patience: how many epochs, ≥ 1.
        losses: of the epochs before, when the training is a resumed one.
    """

    def __init__(self, patience: int, losses: Iterable[float] = ()) -> None:
        super().__init__()
        self.patience = patience
        self.losses = list(losses)

    @property
    def reached(self) -> bool:
        """Whether the last `patience` epochs brought nothing."""
        return len(self.losses) - np.argmin([*self.losses, np.inf]) > self.patience

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.losses.append(float((logs or {})["val_loss"]))
        if self.reached:
            self.model.stop_training = True
