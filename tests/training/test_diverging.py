"""A training that diverges stops with the batch, and nothing of it is checkpointed or exported."""

import keras
import numpy as np
import pytest

from robustcls import InputError, export
from robustcls.training.checkpoints import EpochCheckpoint
from robustcls.training.objectives import OBJECTIVES
from robustcls.training.robust_trainer import RobustTrainer
from robustcls.training.watching import FiniteLoss

layers = keras.layers


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(0)
    return generator.random((12, 4, 4, 1), np.float32), np.arange(12) % 3


def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(4), layers.Dense(3)]
    )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name == "trades" else pytest.mark.exhaustive)
        for name in OBJECTIVES
    ],
)
def test_every_objective_stops_at_the_first_loss_that_is_none(name, data, tmp_path):
    trainer = RobustTrainer(model(), OBJECTIVES[name]())
    trainer.compile(keras.optimizers.SGD(1e30))
    watching = [FiniteLoss(), EpochCheckpoint(tmp_path)]
    with pytest.raises(
        InputError, match=r"loss must stay finite; received .* in batch [12] of epoch"
    ):
        trainer.fit(*data, batch_size=4, epochs=6, callbacks=watching, verbose=0)
    assert not list(tmp_path.rglob("*.npz"))


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_weights_whose_loss_only_validation_sees_are_not_kept(data, tmp_path):
    trainer = RobustTrainer(model(), OBJECTIVES["noise"]())
    trainer.compile(keras.optimizers.SGD(1e30))
    watching = [FiniteLoss(), EpochCheckpoint(tmp_path)]
    with pytest.raises(InputError, match="val_loss must stay finite; epoch 1 ended with"):
        trainer.fit(*data, batch_size=12, validation_data=data, callbacks=watching, verbose=0)
    assert not list(tmp_path.rglob("*.npz"))


def test_an_optimizer_that_has_diverged_is_not_kept(data, tmp_path):
    class Blow(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            optimizer = self.model.optimizer
            optimizer.momentums[0].assign(np.full(optimizer.momentums[0].shape, np.inf))

    trainer = RobustTrainer(model(), OBJECTIVES["noise"]())
    trainer.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    watching = [Blow(), FiniteLoss(), EpochCheckpoint(tmp_path)]
    with pytest.raises(InputError, match=r"epoch 1 ended with weights .*momentum"):
        trainer.fit(*data, callbacks=watching, verbose=0)
    assert not list(tmp_path.rglob("*.npz"))


def test_a_model_with_weights_that_are_not_finite_is_not_exported(tmp_path):
    spoilt = model()
    spoilt.layers[-1].bias.assign([0, np.nan, np.inf])
    with pytest.raises(InputError, match=r"finite weights; 2 of 3 in .*bias are NaN or infinite"):
        export(spoilt, tmp_path / "export", class_names=["a", "b", "c"])
    assert not (tmp_path / "export").exists()
