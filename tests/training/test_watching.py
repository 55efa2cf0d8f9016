"""Trainings that go wrong end with their last good state; averages of weights."""

import shutil
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

from robustcls import InputError, Split, Splits
from robustcls._stopping import Stopped, stopping_on_signals
from robustcls.training.averaging import WeightAverage
from robustcls.training.checkpoints import EpochCheckpoint
from robustcls.training.config import TrainConfig
from robustcls.training.fit import train
from robustcls.training.objectives import OBJECTIVES
from robustcls.training.robust_trainer import RobustTrainer
from robustcls.training.watching import ROBUST_ACCURACY, FiniteLoss, RobustnessWatch

layers = keras.layers


def small_model(batch_norm=True):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(8, 3, activation="relu"),
            *([layers.BatchNormalization(momentum=0.99)] if batch_norm else []),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )


@pytest.fixture(scope="module")
def data():
    """Stripes in three directions."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 300)
    rows, columns = np.mgrid[:6, :6]
    patterns = np.stack([rows % 2, columns % 2, (rows + columns) % 2])
    images = 0.3 + 0.4 * patterns[labels] + generator.normal(0, 0.1, (300, 6, 6))
    return np.clip(images, 0, 1)[..., None].astype(np.float32), labels


def trainer_of(name="fgsm_rs", rate=0.05, **settings):
    trainer = RobustTrainer(small_model(), OBJECTIVES[name](**settings))
    trainer.compile(keras.optimizers.SGD(rate))
    return trainer


class Spoil(keras.callbacks.Callback):
    """From an epoch on, turns the weights around."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            model = self.model.base_model
            self.before = model.get_weights()
            model.layers[-1].kernel.assign(-model.layers[-1].kernel)


def test_a_collapse_brings_the_last_good_weights_back(data, capsys):
    images, labels = data
    trainer = trainer_of(epsilon=0.05)
    watch = RobustnessWatch(images[200:], labels[200:], epsilon=0.05, steps=5)
    spoil = Spoil(3)
    history = trainer.fit(
        images[:200], labels[:200], epochs=8, callbacks=[spoil, watch], verbose=0, shuffle=False
    ).history
    assert watch.collapsed == 4
    assert len(history["loss"]) == 4
    accuracies = history[ROBUST_ACCURACY]
    assert accuracies[2] > 0.6
    assert accuracies[3] < 0.3
    assert "Epoch 4" in capsys.readouterr().out
    # The best epoch's are back, and as robust as the log said.
    assert float(watch._accuracy()) == pytest.approx(max(accuracies[:3]))
    assert not np.array_equal(trainer.base_model.get_weights()[-2], -spoil.before[-2])


def test_the_watch_changes_nothing_while_all_is_well(data):
    images, labels = data
    results = []
    for watched in (False, True):
        trainer = trainer_of(epsilon=0.05)
        watch = [RobustnessWatch(images[200:], labels[200:], epsilon=0.05)] if watched else []
        trainer.fit(images[:200], labels[:200], epochs=2, callbacks=watch, verbose=0, shuffle=False)
        results.append(trainer.base_model.get_weights())
    for first, second in zip(*results, strict=True):
        np.testing.assert_array_equal(first, second)


def test_the_watch_sees_what_the_model_takes_and_returns():
    """A model of grey levels with one logit: chance on images as they are, or with two columns."""
    images = np.random.default_rng(0).uniform(0.3, 0.7, (40, 4, 4, 1)).astype(np.float32)
    labels = (images.mean((1, 2, 3)) > 0.5).astype(int)
    steps = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4, 4, 1)), *steps])
    model.layers[-1].set_weights([np.ones((16, 1)), np.array([-8.0])])
    trainer = RobustTrainer(model, OBJECTIVES["noise"](), input_range=(0, 255))
    trainer.compile(keras.optimizers.SGD(0.0))
    watch = RobustnessWatch(images, labels, epsilon=0.01, steps=2)
    logs = trainer.fit(255 * images, labels, verbose=0, callbacks=[watch]).history
    expected = (np.abs(images.mean((1, 2, 3)) - 0.5) > 0.01).mean()
    assert 0 < expected < 1
    assert logs[ROBUST_ACCURACY] == pytest.approx([expected])


def test_the_first_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(data, tmp_path):
    images, labels = data

    class Blow(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if self.model.optimizer.iterations == 6:
                self.model.base_model.layers[-1].kernel.assign(np.full((128, 3), np.inf))

    trainer = trainer_of(epsilon=0.05)
    callbacks = [Blow(), FiniteLoss(), EpochCheckpoint(tmp_path)]
    with pytest.raises(InputError, match=r"must stay finite; received nan in batch 3 of epoch 2\."):
        trainer.fit(
            images[:200], labels[:200], batch_size=50, epochs=9, callbacks=callbacks, verbose=0
        )
    again = trainer_of(epsilon=0.05)
    assert EpochCheckpoint(tmp_path).restore(again) == 1
    assert all(np.isfinite(weight).all() for weight in again.base_model.get_weights())


def test_weights_that_are_not_finite_are_never_checkpointed(data, tmp_path):
    images, labels = data

    class Spoiled(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.base_model.layers[-1].bias.assign([np.nan, 0, 0])

    trainer = trainer_of(epsilon=0.05)
    with pytest.raises(InputError, match="epoch 1 ended with weights"):
        trainer.fit(
            images,
            labels,
            verbose=0,
            callbacks=[Spoiled(), FiniteLoss(), EpochCheckpoint(tmp_path)],
        )
    assert not list(tmp_path.rglob("*.npz"))


def test_averages_are_those_of_the_definition(data):
    images, labels = data
    trainer = trainer_of("noise", sigma=0.1, rate=0.1)
    average = WeightAverage(0.9)
    seen = [trainer.base_model.get_weights()[0]]

    class Keep(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(self.model.base_model.get_weights()[0])

    trainer.fit(images, labels, batch_size=20, epochs=9, callbacks=[Keep(), average], verbose=0)
    expected = seen[0]
    for step, weights in enumerate(seen[1:], 1):
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weights
    np.testing.assert_allclose(average.variables[0], expected, atol=1e-5)
    assert not np.allclose(seen[-1], expected, atol=1e-4)


def test_batch_norm_of_an_average_fits_after_a_short_run(data):
    images, labels = data
    trainer = trainer_of("noise", sigma=0.001, rate=0.05)
    average = WeightAverage(0.999)
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(100)
    trainer.fit(batches, epochs=3, callbacks=[average], verbose=0)
    model = trainer.base_model
    weights = model.get_weights()
    average.finish(batches)
    assert model.layers[1].momentum == 0.99
    features = model.layers[0](images)
    mean, variance = tf.nn.moments(features, [0, 1, 2])
    np.testing.assert_allclose(model.layers[1].moving_mean, mean, atol=0.01)
    np.testing.assert_allclose(model.layers[1].moving_variance, variance, rtol=0.1)
    # After nine steps of momentum .99 the statistics of training are far away.
    assert np.abs(weights[5] - variance).max() > 0.3


@pytest.fixture
def tiny(monkeypatch):
    """A training run of few images, whose network is tiny."""
    from robustcls.training import assembling, fit

    generator = np.random.default_rng(0)

    def split(count):
        images = generator.integers(0, 256, (count, 8, 8, 1), np.uint8)
        return Split(images, np.arange(count) % 3, np.arange(count).astype(str))

    splits = Splits(split(90), split(30), split(30), ("a", "b", "c"), "noise")

    def build(**settings):
        keras.utils.set_random_seed(settings["seed"])
        images = keras.Input(settings["input_shape"])
        x = layers.Rescaling(2.0, -1.0)(images)
        x = layers.Conv2D(4, 3, activation="relu", name="conv")(x)
        x = layers.BatchNormalization(name="norm")(x)
        x = layers.GlobalAveragePooling2D()(x)
        model = keras.Model(images, layers.Dense(settings["num_classes"], name="logits")(x))
        model.weights_source = "random"
        return model

    monkeypatch.setattr(assembling, "build_classifier", build)
    monkeypatch.setattr(fit, "load_splits", lambda config: splits)

    def make(**settings):
        given = {
            "augmentation": None,
            "epochs": 2,
            "batch_size": 30,
            **settings,
        }
        return TrainConfig(**given)

    return make


@pytest.mark.long
def test_a_run_of_several_objectives(tiny, tmp_path):
    config = tiny(
        models=("base", "trades"),
        objectives={"trades": {"beta": 2.0, "steps": 2}},
        watch_images=16,
        epochs=1,
    )
    run = train(config, tmp_path / "run", verbose=0)
    assert run.trained == ["base", "trades"]
    assert run.config["train"]["objectives"]["trades"] == {"beta": 2.0, "steps": 2}
    header = (run.folder("trades") / "history.csv").read_text().splitlines()[0]
    assert ROBUST_ACCURACY in header
    assert ROBUST_ACCURACY not in (run.folder("base") / "history.csv").read_text()


@pytest.mark.exhaustive
def test_an_averaged_training_goes_on_to_the_same_result(tiny, tmp_path):
    config = tiny(models=("free",), objectives={"free": {"replays": 2}}, average_decay=0.9)
    whole = train(config, tmp_path / "whole", verbose=0)
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    folder = tmp_path / "again" / "free"
    (folder / "model.keras").unlink()
    (folder / "checkpoints" / "epoch-002.npz").unlink()
    again = train(config, tmp_path / "again", resume=True, verbose=0)
    models = [keras.models.load_model(r.folder("free") / "model.keras") for r in (whole, again)]
    for first, second in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(first, second)


def told_to_end(monkeypatch, where, number=signal.SIGTERM):
    """Lets the process be told to end in an epoch, after a batch of the kind."""
    epoch, kind = where
    original = getattr(EpochCheckpoint, f"on_{kind}_batch_end")

    def ended(self, batch, logs=None):
        if len(self.history) == epoch - 1 and batch == (kind == "train") and not seen:
            seen.append(where)
            signal.raise_signal(number)
        original(self, batch, logs)

    seen = []
    monkeypatch.setattr(EpochCheckpoint, f"on_{kind}_batch_end", ended)


STOPPED = [
    ("trades", {"objectives": {"trades": {"steps": 2}}, "watch_images": 16}, (1, "train")),
    ("base", {"average_decay": 0.9}, (2, "train")),
    ("base", {}, (1, "test")),
    ("adversarial", {}, (2, "train")),
    ("free", {"objectives": {"free": {"replays": 2}}, "average_decay": 0.9}, (1, "test")),
]


@pytest.mark.parametrize(
    ("name", "settings", "where"),
    [
        pytest.param(*STOPPED[0], marks=pytest.mark.long),
        *(pytest.param(*case, marks=pytest.mark.exhaustive) for case in STOPPED[1:]),
    ],
)
def test_a_training_that_is_told_to_end_saves_in_mid_epoch(
    name, settings, where, tiny, tmp_path, monkeypatch
):
    config = tiny(models=(name,), **settings)
    whole = train(config, tmp_path / "whole", verbose=0)
    with monkeypatch.context() as patch, stopping_on_signals():
        told_to_end(patch, where)
        with pytest.raises(Stopped) as stopped:
            train(config, tmp_path / "again", verbose=0)
    batch = 2 if where[1] == "train" else 3
    assert stopped.value.kept == f"everything up to batch {batch} of epoch {where[0]} of {name}"
    folder = tmp_path / "again" / name
    *_, saved = sorted(path.name for path in folder.glob("checkpoints/*"))
    assert saved == f"epoch-{where[0]:03d}-batch-{batch:06d}.npz"
    again = train(config, tmp_path / "again", resume=True, verbose=0)
    models = [keras.models.load_model(r.folder(name) / "model.keras") for r in (whole, again)]
    for first, second in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(first, second)
    tables = [(run.folder(name) / "history.csv").read_text() for run in (whole, again)]
    assert tables[0] == tables[1]


def test_the_good_weights_of_an_earlier_epoch_come_back_after_a_pause(data):
    images, labels = data
    good = [np.full((2, 2), 7.0, np.float32)]
    watch = RobustnessWatch(
        images[:4], labels[:4], epsilon=0.1, history=[0.9, 0.8], good_weights=good
    )
    watch.set_model(trainer_of("noise", sigma=0.001))
    watch.on_train_begin()
    assert watch.good_weights()[0] is good[0]


def test_settings_of_runs():
    assert TrainConfig().to_dict().keys() == {
        "data", "model", "augmentation", "adversarial", "optimizer", "unfreezing", "epochs",
        "batch_size", "seed", "models",
    }  # fmt: skip
    with pytest.raises(InputError, match=r"models must be one of .*trades.*'trade'.*'trades'"):
        TrainConfig(models=("trade",))
    with pytest.raises(InputError, match=r"objectives must be one of .*'tradess'"):
        TrainConfig(objectives={"tradess": {}})


def test_an_unknown_setting_of_an_objective_is_named(tiny, tmp_path):
    config = tiny(models=("trades",), objectives={"trades": {"betta": 1}})
    with pytest.raises(InputError, match=r"objectives.trades must be one of .*'beta'\?"):
        train(config, tmp_path / "run", verbose=0)
    assert not (tmp_path / "run").exists()


def test_a_ramp_that_outlasts_the_training_is_refused(tiny, tmp_path):
    """Epsilon would never reach its value."""
    config = tiny(models=("ibp",))
    with pytest.raises(InputError, match=r"at least 6 for ibp.*ramp_epochs 5\); received 2\. Did"):
        train(config, tmp_path / "run", verbose=0)
    assert not (tmp_path / "run").exists()
