"""Going on in the middle of an epoch, on one worker or on several together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from robustcls.distribution.collectives import from_chief


class Midway:
    """Reads the batches that an epoch has had already, so that `fit` trains on the others.

    The order and the content of batches follow from the epoch's number, so what comes after is
    what would have come. Callbacks see the batches that are only read, with the logs of the last.

    Args:
        batches: that the epoch has had (int >= 1).
        logs: of the last of them.
        metrics: values of the metrics' variables after it; None on workers that the chief tells.
        beside: variables that callbacks change with every batch.
        values: of those, after the last batch.
    """

    def __init__(
        self,
        batches: int,
        logs: Mapping[str, float],
        metrics: Sequence[np.ndarray] | None,
        beside: Sequence[Any],
        values: Sequence[np.ndarray],
    ) -> None:
        self.batches = batches
        self._logs, self._metrics = dict(logs), metrics
        self._beside, self._values = beside, values

    def begin(self, model: Any) -> None:
        """Sets the metrics, and lets the model read batches in place of training on them.

        Args:
            model: whose `fit` has just begun the epoch.
        """
        own = metric_values(model)
        metrics = from_chief(own if self._metrics is None else self._metrics)
        for variable, value in zip(_metric_variables(model), metrics, strict=True):
            variable.assign(value)
        train, left = model.train_function, self.batches

        def read(iterator: Any) -> dict[str, float]:
            nonlocal left
            next(iterator)
            left -= 1
            if not left:
                model.train_function = train
            return dict(self._logs)

        model.train_function = read

    def end(self) -> None:
        """Undoes what callbacks did with the batches that were only read."""
        for variable, value in zip(self._beside, self._values, strict=True):
            variable.assign(value)


def metric_values(model: keras.Model) -> list[np.ndarray]:
    """Returns the values of the metrics' variables, on all workers together.

    Args:
        model: that trains.
    """
    return [keras.ops.convert_to_numpy(variable) for variable in _metric_variables(model)]


def _metric_variables(model: keras.Model) -> list[Any]:
    return [variable for metric in model.metrics for variable in metric.variables]
