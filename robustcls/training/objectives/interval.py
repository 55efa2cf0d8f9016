"""Certified training: the loss of the worst logits that bounds cannot rule out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from robustcls._settings import Epsilon, Flag, NonNegativeFloat, UnitFloat, check_settings
from robustcls._validation import InputError
from robustcls.bounds.initialization import initialize_for_bounds
from robustcls.bounds.margins import Boxes, Maps, backward_margins, interval_margins
from robustcls.bounds.network import Network
from robustcls.training.objectives.objective import Batch, Objective, cross_entropy


@dataclass(frozen=True, kw_only=True)
class IBP(Objective):
    """kappa * CE(f(x), y) + (1 - kappa) * CE(worst, y), the worst logits from interval bounds.

    During the warm-up epsilon is 0 and kappa 1; over the ramp epsilon rises linearly to its value
    and kappa falls to `kappa`. Batch norm takes the statistics of the images themselves for the
    bounds too. A training from random weights draws them as the intervals need it.

    Sources: Gowal et al., "On the Effectiveness of Interval Bound Propagation for Training
    Verifiably Robust Models", 2018, sections 3 and 4; Shi et al., "Fast Certified Robust Training
    with Short Warmup", 2021, sections 3.1 and 3.3, for weights and batch norm.

    Args:
        epsilon: radius of the L-infinity ball at the end of the ramp; slightly above the radius to
            be certified (float in (0, 1], default 8/255).
        kappa: weight of the plain loss at the end of the ramp (float in [0, 1], default 0.5).
        warmup_epochs: epochs of plain training (float >= 0, default 1.0).
        ramp_epochs: epochs of the ramp (float >= 0, default 5.0).
        initialize: draw random weights anew with standard deviation sqrt(2 pi) / fan-in (bool,
            default True).

    Raises:
        InputError: a setting is out of its range; in training, the model has a layer that bounds
            do not know.
    """

    name = "ibp"

    epsilon: Epsilon = 8 / 255
    kappa: UnitFloat = 0.5
    warmup_epochs: NonNegativeFloat = 1.0
    ramp_epochs: NonNegativeFloat = 5.0
    initialize: Flag = True

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def schedule_epochs(self) -> float:
        return self.warmup_epochs + self.ramp_epochs

    def prepare(self, model: keras.Model, seed: int, fresh: bool) -> None:
        Network(model)
        if self.initialize and fresh:
            initialize_for_bounds(model, seed)

    def loss(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        network = Network(batch.model)
        ramp = self._ramp(batch)
        epsilon, kappa = self.epsilon * ramp, 1.0 - (1.0 - self.kappa) * ramp
        lower = tf.maximum(batch.images - epsilon, 0.0)
        upper = tf.minimum(batch.images + epsilon, 1.0)
        lower, clean, upper = (batch.inputs(images) for images in (lower, batch.images, upper))
        boxes, maps = network.boxes(lower, upper, clean=clean, training=True)
        logits: Any = boxes[network.output].clean
        if logits.shape[-1] == 1:
            raise InputError(
                f"{self.name} must train a model of a logit for each class; "
                f"{batch.model.name} returns one number."
            )
        margins = self._margins(network, boxes, maps, batch, ramp)
        worst = cross_entropy(-margins, batch.labels)
        return kappa * cross_entropy(logits, batch.labels) + (1.0 - kappa) * worst, logits

    def _ramp(self, batch: Batch) -> tf.Tensor:
        """How far the ramp has come, float32 scalar in [0, 1]."""
        done = batch.epoch - self.warmup_epochs
        return tf.clip_by_value(done / max(self.ramp_epochs, 1e-6), 0.0, 1.0)

    def _margins(
        self, network: Network, boxes: Boxes, maps: Maps, batch: Batch, ramp: tf.Tensor
    ) -> tf.Tensor:
        return interval_margins(network, boxes, batch.labels)


@dataclass(frozen=True, kw_only=True)
class CrownIBP(IBP):
    """As IBP, with margins from a backward pass of lines that give way to intervals.

    The margins are (1 - beta) * interval + beta * backward, beta falling from 1 to 0 over the
    ramp. Each step costs a backward pass for every class.

    Source: Zhang et al., "Towards Stable and Efficient Training of Verifiably Robust Neural
    Networks", 2020, section 3.2.

    Args:
        epsilon: radius of the L-infinity ball at the end of the ramp; slightly above the radius to
            be certified (float in (0, 1], default 8/255).
        kappa: weight of the plain loss at the end of the ramp (float in [0, 1], default 0.5).
        warmup_epochs: epochs of plain training (float >= 0, default 1.0).
        ramp_epochs: epochs of the ramp (float >= 0, default 5.0).
        initialize: draw random weights anew with standard deviation sqrt(2 pi) / fan-in (bool,
            default True).

    Raises:
        InputError: a setting is out of its range; in training, the model has a layer that bounds
            do not know.
    """

    name = "crown_ibp"

    def _margins(
        self, network: Network, boxes: Boxes, maps: Maps, batch: Batch, ramp: tf.Tensor
    ) -> tf.Tensor:
        intervals = interval_margins(network, boxes, batch.labels)

        def mixed() -> tf.Tensor:
            lines = backward_margins(network, boxes, maps, batch.labels)
            return ramp * intervals + (1.0 - ramp) * lines

        # After the ramp the lines have no part, and take no time.
        return tf.cond(ramp < 1.0, mixed, lambda: intervals)
