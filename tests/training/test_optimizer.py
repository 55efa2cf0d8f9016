"""The optimizer that a training's settings ask for."""

import keras
import numpy as np
import pytest

from robustcls.training.assembling import _optimizer
from robustcls.training.config import OptimizerConfig


def test_the_rate_rises_for_its_share_of_the_steps_and_falls_as_a_cosine():
    made = _optimizer(OptimizerConfig(learning_rate=0.4, warmup=0.1), 200)
    rates = [float(made._learning_rate(step)) for step in (0, 10, 20, 110, 200)]
    assert rates == pytest.approx([0, 0.2, 0.4, 0.2, 0], abs=1e-6)
    plain = _optimizer(OptimizerConfig(learning_rate=0.4, warmup=0.0), 200)
    assert float(plain._learning_rate(0)) == pytest.approx(0.4)


def test_momentum_and_weight_decay_are_those_asked_for():
    variable = keras.Variable(np.array([2.0], np.float32))
    config = OptimizerConfig(learning_rate=0.1, momentum=0.5, weight_decay=0.25, warmup=0.0)
    made = _optimizer(config, 10)
    assert made.nesterov
    made.apply([np.zeros(1, np.float32)], [variable])
    # Decoupled: the gradient is zero, and the weight falls by rate * decay of itself.
    assert float(variable[0]) == pytest.approx(2 - 0.1 * 0.25 * 2)
    still = keras.Variable(np.array([2.0], np.float32))
    _optimizer(OptimizerConfig(learning_rate=0.1), 10).apply([np.zeros(1, np.float32)], [still])
    assert float(still[0]) == 2
    assert not _optimizer(OptimizerConfig(learning_rate=0.1, momentum=0.0), 10).nesterov
