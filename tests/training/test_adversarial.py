import keras
import numpy as np
import pytest
import tensorflow as tf

from robustcls._validation import InputError
from robustcls.training.adversarial import AdversarialRegularization


def small_model(name="small", last=None):
    return keras.Sequential(
        [
            keras.Input((8, 8, 1), name="feature"),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(3, activation=last),
        ],
        name=name,
    )


@pytest.fixture
def data():
    """Gratings in three directions."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 240)
    rows, columns = np.mgrid[:8, :8]
    patterns = np.stack([rows % 2, columns % 2, (rows + columns) % 2])
    images = 0.35 + 0.3 * patterns[labels] + generator.normal(0, 0.15, (240, 8, 8))
    return np.clip(images, 0, 1)[..., None].astype(np.float32), labels


def test_fit_with_arrays_datasets_and_dictionaries(data):
    images, labels = data
    model = AdversarialRegularization(small_model(), step_size=0.1)
    model.compile(metrics=["accuracy"])
    keys = {"loss", "clean_loss", "adversarial_loss", "accuracy", "adversarial_accuracy"}

    history = model.fit(images, labels, validation_split=0.2, epochs=2, verbose=0).history
    assert set(history) == keys | {f"val_{key}" for key in keys}
    dataset = tf.data.Dataset.from_tensor_slices((images, labels)).batch(50)
    assert set(model.fit(dataset, verbose=0).history) == keys
    weights = np.ones(len(labels), np.float32)
    named = {"feature": images, "label": labels, "sample_weight": weights}
    assert set(model.fit(named, verbose=0, batch_size=60).history) == keys
    assert set(model.evaluate(images, labels, verbose=0, return_dict=True)) == keys
    assert model.predict(images, verbose=0).shape == (240, 3)


def test_training_makes_the_model_robust(data):
    images, labels = data
    accuracies = {}
    for multiplier in (0.0, 1.0):
        keras.utils.set_random_seed(1)
        model = AdversarialRegularization(small_model(), multiplier=multiplier, step_size=0.12)
        model.compile(keras.optimizers.SGD(0.02, momentum=0.9), metrics=["accuracy"])
        model.fit(images, labels, epochs=15, verbose=0)
        accuracies[multiplier] = model.evaluate(images, labels, verbose=0, return_dict=True)
    assert accuracies[0.0]["accuracy"] > 0.9
    assert accuracies[1.0]["accuracy"] > 0.9
    gain = accuracies[1.0]["adversarial_accuracy"] - accuracies[0.0]["adversarial_accuracy"]
    assert gain > 0.1


def test_sample_weights_scale_both_losses(data):
    images, labels = data
    base = small_model()
    logs = []
    for weight in (1.0, 2.0):
        model = AdversarialRegularization(base, step_size=0.1)
        model.compile(keras.optimizers.SGD(0.0))
        weights = np.full(len(labels), weight, np.float32)
        logs.append(model.train_on_batch(images, labels, weights, return_dict=True))
    for key in ("clean_loss", "adversarial_loss"):
        assert logs[1][key] == pytest.approx(2 * logs[0][key], rel=1e-4)


def test_regularization_losses_count_once(data):
    images, labels = data
    base = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(3, kernel_regularizer=keras.regularizers.L2(0.5)),
        ]
    )
    model = AdversarialRegularization(base, multiplier=1.0, step_size=0.1)
    model.compile(keras.optimizers.SGD(0.0))
    logs = model.train_on_batch(images, labels, return_dict=True)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    plain = float(loss(labels, base(images)))
    penalty = 0.5 * float(tf.reduce_sum(tf.square(base.layers[-1].kernel)))
    assert logs["clean_loss"] == pytest.approx(plain + penalty, rel=1e-4)
    assert logs["adversarial_loss"] < logs["clean_loss"] + plain * 3
    assert logs["loss"] == pytest.approx(logs["clean_loss"] + logs["adversarial_loss"], rel=1e-5)


@pytest.mark.parametrize("grad_norm", ["infinity", "l2"])
def test_random_start_is_seeded_and_stays_in_the_ball(data, grad_norm):
    images, labels = data
    base = small_model()
    neighbours = []
    for seed in (3, 3, 4):
        model = AdversarialRegularization(
            base,
            step_size=0.04,
            epsilon=0.1,
            iterations=2,
            grad_norm=grad_norm,
            random_start=True,
            seed=seed,
        )
        model.compile()
        made = model.perturb_on_batch(images, labels)
        neighbours.append(made)
    np.testing.assert_array_equal(neighbours[0], neighbours[1])
    assert np.abs(neighbours[0] - neighbours[2]).max() > 0.01
    offsets = (neighbours[0] - images).reshape(len(images), -1)
    order = np.inf if grad_norm == "infinity" else 2
    assert np.linalg.norm(offsets, order, axis=1).max() <= 0.1 + 1e-6
    assert neighbours[0].min() >= 0
    assert neighbours[0].max() <= 1


def test_only_the_base_model_is_saved(data, tmp_path):
    images, labels = data
    base = small_model()
    model = AdversarialRegularization(base)
    model.compile()
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", monitor="loss")
    model.fit(images, labels, verbose=0, callbacks=[checkpoint])
    model.save(tmp_path / "model.keras")
    for name in ("best.keras", "model.keras"):
        loaded = keras.models.load_model(tmp_path / name)
        assert type(loaded) is keras.Sequential
        np.testing.assert_allclose(
            loaded.predict(images, verbose=0), base.predict(images, verbose=0), atol=1e-6
        )


def test_frozen_layers_stay_and_the_rest_learns(data):
    images, labels = data
    base = small_model()
    base.layers[0].trainable = False
    before = [w.copy() for w in base.get_weights()]
    model = AdversarialRegularization(base)
    model.compile()
    model.fit(images, labels, verbose=0)
    after = base.get_weights()
    np.testing.assert_array_equal(before[0], after[0])
    assert np.abs(before[-1] - after[-1]).max() > 0


def test_mirrored_strategy_reports_the_same_losses(data):
    images, labels = data
    cpu = tf.config.list_logical_devices("CPU")
    strategy = tf.distribute.MirroredStrategy([cpu[0].name])
    with strategy.scope():
        model = AdversarialRegularization(small_model(), step_size=0.1)
        model.compile(keras.optimizers.SGD(0.0), metrics=["accuracy"])
    logs = model.fit(images, labels, batch_size=240, verbose=0).history
    assert logs["loss"][0] == pytest.approx(
        logs["clean_loss"][0] + 0.2 * logs["adversarial_loss"][0], rel=1e-4
    )


def test_softmax_models_with_probability_losses_work(data):
    images, labels = data
    model = AdversarialRegularization(small_model(last="softmax"), step_size=0.1)
    model.compile("sgd", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(images, labels, epochs=2, verbose=0).history
    assert history["adversarial_loss"][0] > history["clean_loss"][0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"step_size": 8}, r"step_size must be in \(0, 1\].*8/255"),
        ({"epsilon": 8}, r"epsilon must be in \(0, 1\].*8/255"),
        ({"grad_norm": "infinty"}, "grad_norm must be one of infinity, l1, l2.*'infinity'"),
        ({"multiplier": -1}, "multiplier must be a number >= 0; received -1"),
        ({"iterations": 0}, "iterations must be an integer >= 1; received 0"),
        ({"random_start": True}, "random_start must come with epsilon.*mean epsilon=0.03137"),
        ({"grad_norm": "l1", "epsilon": 0.1}, "grad_norm must be 'infinity' or 'l2'"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message):
        AdversarialRegularization(small_model(), **settings)


@pytest.mark.parametrize(
    "loss",
    [
        "sparse_categorical_crossentropy",
        keras.losses.SparseCategoricalCrossentropy(),
        "categorical_crossentropy",
    ],
)
def test_a_loss_on_probabilities_is_refused_for_logits(loss):
    model = AdversarialRegularization(small_model())
    with pytest.raises(InputError, match=r"loss must be computed from logits.*from_logits=True"):
        model.compile(loss=loss)


def test_bad_batches(data):
    images, labels = data
    model = AdversarialRegularization(small_model())
    model.compile()
    with pytest.raises(InputError, match="must hold 'label' beside the images"):
        model.train_on_batch({"feature": images, "labels": labels})
    with pytest.raises(
        InputError, match="loss must be one for each output of the model, 1; received 2"
    ):
        model.compile(loss=["mse", "mse"])
