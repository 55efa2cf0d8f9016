"""Every objective equals a slow reference written from its definition."""

import importlib.util
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from robustcls import InputError
from robustcls.training.adversarial import AdversarialRegularization
from robustcls.training.objectives import OBJECTIVES, Objective, cross_entropy
from robustcls.training.objectives.interval import IBP
from robustcls.training.robust_trainer import RobustTrainer

spec = importlib.util.spec_from_file_location("reference", Path(__file__).with_name("reference.py"))
reference = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reference)

layers = keras.layers
SETTINGS = {
    "nsl": {"step_size": 0.1},
    "pgd": {"epsilon": 0.1, "steps": 2},
    "fgsm_rs": {"epsilon": 0.1},
    "n_fgsm": {"epsilon": 0.1},
    "free": {"epsilon": 0.1, "replays": 2},
    "trades": {"epsilon": 0.1, "steps": 2},
    "mart": {"epsilon": 0.1, "steps": 2},
    "noise": {"sigma": 0.2},
    "augmix": {"width": 1, "depth": 1},
    "ibp": {"epsilon": 0.1, "warmup_epochs": 0, "ramp_epochs": 0},
    "crown_ibp": {"epsilon": 0.1, "warmup_epochs": 0, "ramp_epochs": 2},
}


def smooth_model():
    keras.utils.set_random_seed(4)
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Flatten(),
            layers.Dense(12, activation="tanh"),
            layers.Dense(4),
        ]
    )


def small_model(seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )


@pytest.fixture(scope="module")
def data():
    """Stripes in three directions."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 200)
    rows, columns = np.mgrid[:6, :6]
    patterns = np.stack([rows % 2, columns % 2, (rows + columns) % 2])
    images = 0.35 + 0.3 * patterns[labels] + generator.normal(0, 0.1, (200, 6, 6))
    return np.clip(images, 0, 1)[..., None].astype(np.float32), labels


@pytest.fixture
def batch():
    generator = np.random.default_rng(1)
    images = generator.uniform(size=(5, 6, 6, 1)).astype(np.float32)
    images[0] = np.round(images[0])
    return images, np.array([0, 3, 1, 2, 2])


def gradients_of(trainer, images, labels):
    seen = trainer._batch(images, labels)
    with tf.GradientTape() as tape:
        losses, _ = trainer.objective.loss(seen)
        loss = tf.reduce_mean(losses)
    return loss.numpy(), tape.gradient(loss, trainer.base_model.trainable_weights)


@pytest.mark.parametrize("name", sorted(reference.OBJECTIVES))
def test_loss_and_gradients_equal_the_reference(name, batch):
    images, labels = batch
    model = smooth_model()
    objective = OBJECTIVES[name](**SETTINGS[name])
    trainer = RobustTrainer(model, objective, seed=7)
    trainer.compile()
    draw = trainer._batch(images, labels).draw
    state = trainer._seeds.state.numpy()
    noise = {}
    if name == "augmix":
        views = objective.views(trainer._batch(images, labels))
        noise["mixed"] = np.stack([view.numpy() for view in views], 1)
    else:
        seed = draw()
        noise["normal"] = tf.random.stateless_normal(images.shape, seed).numpy()
        noise["uniform"] = tf.random.stateless_uniform(images.shape, seed).numpy()
    trainer._seeds.state.assign(state)
    loss, gradients = gradients_of(trainer, images, labels)
    expected = reference.loss_and_gradients(name, model, images, labels, noise, objective)
    assert loss == pytest.approx(expected[0], rel=1e-5)
    for found, wanted in zip(gradients, expected[1], strict=True):
        scale = np.abs(wanted).max()
        np.testing.assert_allclose(found, wanted, atol=1e-5 * max(scale, 1))


def test_free_training_by_hand(batch):
    """Two batches of algorithm 1, the perturbation carried from the first to the second."""
    images, labels = batch
    model, rate, epsilon = smooth_model(), 0.1, 0.1
    trainer = RobustTrainer(model, OBJECTIVES["free"](epsilon=epsilon, replays=2))
    trainer.compile(keras.optimizers.SGD(rate))
    twin = smooth_model()
    perturbation = np.zeros_like(images)
    for _ in range(2):
        trainer.train_on_batch(images, labels)
        for _ in range(2):
            points = tf.constant(images + perturbation)
            with tf.GradientTape() as tape:
                tape.watch(points)
                logits = twin(tf.clip_by_value(points, 0.0, 1.0))
                loss = tf.reduce_mean(cross_entropy(logits, labels))
            *found, moved = tape.gradient(loss, [*twin.trainable_weights, points])
            for weight, gradient in zip(twin.trainable_weights, found, strict=True):
                weight.assign_sub(rate * gradient)
            perturbation += epsilon * np.sign(moved)
            perturbation = np.clip(perturbation, -epsilon, epsilon)
    for found, wanted in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    np.testing.assert_allclose(trainer._kept["perturbation"], perturbation, atol=1e-6)


def interval_reference(model, images, labels, epsilon, kappa):
    """Interval bounds of each image and each pair of classes, in float64."""
    first, bias, last, last_bias = (tf.constant(w, tf.float64) for w in model.get_weights())
    weights = [first, bias, last, last_bias]
    with tf.GradientTape() as tape:
        tape.watch(weights)
        losses = []
        for image, y in zip(images.astype(np.float64), labels, strict=True):
            low, high = np.clip(image - epsilon, 0, 1), np.clip(image + epsilon, 0, 1)
            center, radius = (low + high).reshape(1, -1) / 2, (high - low).reshape(1, -1) / 2
            middle, spread = center @ first + bias, radius @ tf.abs(first)
            low, high = tf.nn.relu(middle - spread), tf.nn.relu(middle + spread)
            worst = []
            for k in range(4):
                difference = (last[:, k] - last[:, y])[None]
                largest = tf.reduce_sum(
                    tf.where(difference > 0, difference * high, difference * low)
                )
                worst.append(largest + last_bias[k] - last_bias[y])
            clean = tf.nn.relu(image.reshape(1, -1) @ first + bias) @ last + last_bias
            loss = kappa * reference.ce(clean[0], y)
            losses.append(loss + (1 - kappa) * reference.ce(tf.stack(worst), y))
        loss = tf.add_n(losses) / len(losses)
    return loss.numpy(), tape.gradient(loss, weights)


def test_ibp_equals_the_reference(batch):
    images, labels = batch
    keras.utils.set_random_seed(4)
    model = keras.Sequential(
        [keras.Input((6, 6, 1)), layers.Flatten(), layers.Dense(12, "relu"), layers.Dense(4)]
    )
    objective = IBP(epsilon=0.05, kappa=0.3, warmup_epochs=0, ramp_epochs=0)
    trainer = RobustTrainer(model, objective)
    trainer.compile()
    trainer.optimizer.build(model.trainable_weights)
    trainer.optimizer.iterations.assign(5)
    loss, gradients = gradients_of(trainer, images, labels)
    expected = interval_reference(model, images, labels, 0.05, 0.3)
    assert loss == pytest.approx(expected[0], rel=1e-5)
    for found, wanted in zip(gradients, expected[1], strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5 * max(np.abs(wanted).max(), 1))


def test_the_ramp_rises_between_its_epochs(data):
    images, labels = data
    trainer = RobustTrainer(small_model(), IBP(epsilon=0.1, warmup_epochs=1, ramp_epochs=2))
    trainer.compile(keras.optimizers.SGD(0.0))
    heights = []

    class Ramp(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            heights.append(float(trainer.objective._ramp(trainer._batch(images, labels))))

    trainer.fit(images, labels, epochs=4, batch_size=50, callbacks=[Ramp()], verbose=0)
    assert heights == pytest.approx([0.0, 0.5, 1.0, 1.0])


def test_a_fit_too_short_for_the_ramp_is_told_so(data):
    images, labels = data
    trainer = RobustTrainer(small_model(), IBP(epsilon=0.1, ramp_epochs=1.5))
    trainer.compile()
    with pytest.warns(UserWarning, match="at least 3 for ibp.*received 1"):
        trainer.fit(images, labels, batch_size=90, verbose=0)
    trainer.fit(images, labels, batch_size=90, verbose=0)  # which goes on from there
    unknown = tf.data.Dataset.from_tensor_slices((images, labels)).batch(50).filter(lambda *_: True)
    with pytest.raises(InputError, match="steps_per_epoch must be given for ibp"):
        trainer.fit(unknown, verbose=0)


def test_bounds_of_training_take_the_statistics_of_the_images(data):
    images, labels = data
    model = small_model()
    trainer = RobustTrainer(model, IBP(epsilon=0.1, warmup_epochs=10))
    trainer.compile(keras.optimizers.SGD(0.0))
    trainer.train_on_batch(images, labels)
    twin = small_model()
    twin(images, training=True)
    for found, wanted in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_contract(name, data):
    """Every objective trains through `fit`, and better than chance."""
    images, labels = data
    assert set(SETTINGS) == set(OBJECTIVES)
    model = small_model()
    trainer = RobustTrainer(model, OBJECTIVES[name](**SETTINGS[name]), seed=1)
    trainer.compile(keras.optimizers.Adam(0.01), metrics=["accuracy"])
    history = trainer.fit(images, labels, epochs=3, batch_size=60, verbose=0).history
    assert set(history) == {"loss", "accuracy"}
    if not name.endswith("ibp"):  # whose loss rises with epsilon
        assert history["loss"][-1] < history["loss"][0]
    accuracy = np.mean(np.argmax(model(images), -1) == labels)
    assert accuracy > 0.45
    if name == "noise":  # evaluation is the same for all of them
        found = trainer.evaluate(images, labels, verbose=0, return_dict=True)
        assert found["accuracy"] == pytest.approx(accuracy)


def test_batches_weights_mixed_precision_and_saving(data, tmp_path):
    images, labels = data
    keras.config.set_dtype_policy("mixed_float16")
    try:
        trainer = RobustTrainer(small_model(), OBJECTIVES["fgsm_rs"](epsilon=0.1))
    finally:
        keras.config.set_dtype_policy("float32")
    trainer.compile(keras.optimizers.SGD(0.01), metrics=["accuracy"])
    one_hot = keras.utils.to_categorical(labels, 3)
    dataset = tf.data.Dataset.from_tensor_slices((images, labels)).batch(64)
    logs = trainer.fit(dataset, validation_data=dataset, verbose=0).history
    assert np.isfinite(logs["loss"]).all()
    assert "val_accuracy" in logs
    trainer.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").name == trainer.base_model.name

    losses = []
    for weight, given in ((1.0, labels), (2.0, labels), (1.0, one_hot)):
        model = RobustTrainer(small_model(), OBJECTIVES["n_fgsm"](epsilon=0.1))
        model.compile(
            keras.optimizers.SGD(0.0),
            None if given is labels else keras.losses.CategoricalCrossentropy(from_logits=True),
        )
        weights = np.full(200, weight, np.float32)
        losses.append(model.train_on_batch(images, given, weights))
    assert losses[1] == pytest.approx(2 * losses[0], rel=1e-5)
    assert losses[2] == pytest.approx(losses[0], rel=1e-5)


def test_an_objective_of_ones_own():
    class Shift(Objective):
        name = "shift"

        def loss(self, batch):
            logits = batch.logits(batch.images + 0.1, training=True)
            return cross_entropy(logits, batch.labels), logits

    assert OBJECTIVES.find("shift") is Shift
    del OBJECTIVES._places["shift"]
    with pytest.raises(InputError, match="name of the objective must be new; 'trades' is"):

        class Other(Objective):
            name = "trades"


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("pgd", {"epsilon": 8}, r"epsilon must be in \(0, 1\].*8/255"),
        ("pgd", {"epsilon": 0}, r"epsilon must be in \(0, 1\]"),
        ("pgd", {"step_size": 0}, r"step_size must be in \(0, 1\]"),
        ("trades", {"epsilon": 0.1, "step_size": 0.3}, "step_size must be at most 2 "),
        ("mart", {"steps": 0}, "steps must be an integer >= 1; received 0"),
        ("free", {"replays": 0}, "replays must be an integer >= 1"),
        ("ibp", {"kappa": 1.5}, "kappa must be a number"),
        ("noise", {"sigma": 0}, "sigma must be a number > 0"),
        ("augmix", {"severity": 11}, "severity must be an integer"),
    ],
)
def test_bad_settings(name, settings, message):
    with pytest.raises(InputError, match=message):
        OBJECTIVES[name](**settings)


@pytest.mark.parametrize("settings", [{}, {"grad_norm": "l2", "iterations": 2, "epsilon": 0.1}])
def test_nsl_trains_as_adversarial_regularization(settings, data):
    images, labels = (part[:32] for part in data)
    settings = {"multiplier": 0.5, "step_size": 0.05, **settings}
    trained = []
    for trainer in (
        AdversarialRegularization(small_model(), **settings),
        RobustTrainer(small_model(), OBJECTIVES["nsl"](**settings)),
    ):
        trainer.compile(keras.optimizers.SGD(0.1))
        for _ in range(2):
            trainer.train_on_batch(images, labels)
        trained.append(trainer.base_model.get_weights())
    for found, wanted in zip(*trained, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_trainer_in_a_trainer_is_refused():
    inner = AdversarialRegularization(small_model())
    with pytest.raises(InputError, match="received the trainer adversarial_regularization"):
        RobustTrainer(inner, OBJECTIVES["pgd"]())


def test_views_are_legal_and_differ(data):
    images, labels = data
    colour = np.repeat(images, 3, -1)
    objective = OBJECTIVES["augmix"](severity=10)
    trainer = RobustTrainer(small_model(), objective)
    trainer.compile()
    first, second = (view.numpy() for view in objective.views(trainer._batch(colour, labels)))
    assert first.shape == colour.shape
    assert first.min() >= 0
    assert first.max() <= 1
    assert (np.abs(first - colour).max((1, 2, 3)) > 0.05).mean() > 0.8
    assert np.abs(first - second).mean() > 0.01
