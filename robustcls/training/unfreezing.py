"""Opens a pretrained network from the top, block by block, as the loss stops improving."""

from __future__ import annotations

from typing import Any

import keras

from robustcls._settings import PositiveInt, UnitFloat, checked
from robustcls._validation import InputError
from robustcls.models.backbones import unfreezing_blocks
from robustcls.training.trainer import base_model_of


class PlateauUnfreezing(keras.callbacks.Callback):
    """Trains the head first, then one more block from the top each time the loss plateaus.

    The loss has plateaued when for `patience` epochs it did not fall by `min_delta` of its best
    value. Frozen batch norm runs in inference mode, so its statistics stay those of the
    pretraining. Opening a block traces the training step again and keeps the optimizer with all
    its state: the optimizer is built over all weights before the first epoch.

    Works with a model of `build_classifier` and with `AdversarialRegularization` around one.

    Args:
        patience: epochs without improvement before the next block opens (int >= 1, default 2).
        min_delta: improvement that counts, as a share of the best loss (float in [0, 1], default
            0.01).
        monitor: a key of the epoch's logs that falls as training goes on (str, default "loss").
        blocks_at_start: blocks that are open from the beginning; 1 is the head (int >= 1, default
            1).
        verbose: 1 prints a line for each block opened (int, default 1).

    Raises:
        InputError: an argument is out of its range, or `monitor` is not in the logs.
    """

    @checked
    def __init__(
        self,
        *,
        patience: PositiveInt = 2,
        min_delta: UnitFloat = 0.01,
        monitor: str = "loss",
        blocks_at_start: PositiveInt = 1,
        verbose: int = 1,
    ) -> None:
        super().__init__()
        self.patience = patience
        self.min_delta = min_delta
        self.monitor = monitor
        self.open_blocks = blocks_at_start
        self.verbose = verbose
        self.best = float("inf")
        self.wait = 0

    def get_state(self) -> dict[str, Any]:
        """What a checkpoint needs to go on: JSON-serializable."""
        return {"open_blocks": self.open_blocks, "best": self.best, "wait": self.wait}

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes up where `get_state` left off; call before `fit`.

        Args:
            state: what `get_state` returned.
        """
        self.open_blocks = state["open_blocks"]
        self.best = state["best"]
        self.wait = state["wait"]

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        model: Any = self.model
        base_model = base_model_of(model)
        self._blocks = unfreezing_blocks(base_model)
        for layer in base_model.layers:
            layer.trainable = True
        optimizer = model.optimizer
        if not optimizer.built:
            optimizer.build(base_model.trainable_weights)
        for block in self._blocks[self.open_blocks :]:
            for layer in block:
                layer.trainable = False
        self._retrace()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs or {}
        if self.monitor not in logs:
            raise InputError(
                f"monitor must be one of {', '.join(sorted(logs))}; received {self.monitor!r}."
            )
        loss = float(logs[self.monitor])
        if self.best == float("inf") or loss < self.best * (1 - self.min_delta):
            self.best, self.wait = loss, 0
            return
        self.wait += 1
        if self.wait < self.patience or self.open_blocks >= len(self._blocks):
            return
        self.wait = 0
        for layer in self._blocks[self.open_blocks]:
            layer.trainable = True
        self.open_blocks += 1
        self._retrace()
        if self.verbose:
            name = self._blocks[self.open_blocks - 1][0].name
            print(
                f"Epoch {epoch + 1}: {self.monitor} has stopped improving; training block "
                f"{self.open_blocks} of {len(self._blocks)} too, from {name} on.",
                flush=True,
            )

    def _retrace(self) -> None:
        # The set of trainable weights is fixed in the traced step; the optimizer is not touched.
        self.model.make_train_function(force=True)
