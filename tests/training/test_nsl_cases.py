"""The cases that NSL tests its own wrapper with, against values computed by hand.

A linear regression has gradients that anyone can write down: the neighbour of x is
x + step * sign((w.x - y) w), and the loss of either is a parabola.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from robustcls import AdversarialRegularization, InputError, adversarial_loss

W = np.array([[4.0], [-3.0]])
X, Y = np.array([[2.0, 3.0]]), np.array([[0.0]])
RATE, STEP, SHARE = 0.01, 0.01, 0.2
FREE = {"step_size": STEP, "multiplier": SHARE, "clip": False}


def dense(weights):
    return keras.layers.Dense(
        weights.shape[-1], use_bias=False, kernel_initializer=lambda *_, **__: weights
    )


def sequential(weights=W):
    return keras.Sequential([keras.Input((2,), name="feature"), dense(weights)])


def unbuilt(weights=W):
    return keras.Sequential([dense(weights)])


def functional(weights=W, name="feature"):
    inputs = keras.Input((2,), name=name)
    return keras.Model({name: inputs}, dense(weights)(inputs))


class OfDictionaries(keras.Model):
    def __init__(self, weights=W):
        super().__init__()
        self.dense = dense(weights)

    def call(self, inputs):
        return self.dense(inputs["feature"])


class OfTensors(OfDictionaries):
    def call(self, inputs):
        return self.dense(inputs)


FORMS = [sequential, unbuilt, functional, OfDictionaries, OfTensors]


def moved(length=STEP):
    return X + length * np.sign((X @ W - Y) * W.T)


def trained(neighbour, weight=1.0):
    """The weights after one step of plain SGD."""
    clean = 2 * (X @ W - Y) * X.T
    return W - RATE * weight * (clean + SHARE * 2 * (neighbour @ W - Y) * neighbour.T)


def weights_of(model):
    return model.get_weights()[0]


def fitted(base, batch, loss="mse", compiled=None, fit=None, **settings):
    model = AdversarialRegularization(base, **{**FREE, **settings})
    model.compile(keras.optimizers.SGD(RATE), loss, **(compiled or {}))
    history = model.fit(batch, batch_size=1, verbose=0, **(fit or {})).history
    return model, history


@pytest.fixture
def batch():
    return {"feature": X.copy(), "label": Y.copy()}


@pytest.mark.parametrize("form", FORMS)
def test_a_step_of_fgsm(form, batch):
    base = form()
    model, history = fitted(base, batch)
    np.testing.assert_allclose(weights_of(base), trained(moved()), rtol=1e-5)
    assert history["clean_loss"][0] == pytest.approx(float((X @ W - Y).item() ** 2), rel=1e-5)
    assert "adversarial_accuracy" not in history
    predicted = model.predict(batch, verbose=0)
    np.testing.assert_allclose(predicted, X @ weights_of(base), rtol=1e-5)
    np.testing.assert_allclose(model.predict({"feature": X}, verbose=0), predicted, rtol=1e-6)


@pytest.mark.parametrize("form", [unbuilt, functional, OfDictionaries])
def test_steps_of_pgd(form, batch):
    base = form()
    fitted(base, batch, iterations=3, epsilon=2.5 * STEP)
    np.testing.assert_allclose(weights_of(base), trained(moved(2.5 * STEP)), rtol=1e-5)


@pytest.mark.parametrize("loss", [["mse"], keras.losses.MeanSquaredError(), {"dense": "mse"}])
def test_forms_of_the_loss(loss, batch):
    inputs = keras.Input((2,), name="feature")
    outputs = keras.layers.Dense(
        1, use_bias=False, kernel_initializer=lambda *_, **__: W, name="dense"
    )(inputs)
    base = keras.Model(inputs, outputs)
    fitted(base, batch, loss)
    np.testing.assert_allclose(weights_of(base), trained(moved()), rtol=1e-5)


@pytest.mark.parametrize(
    ("beside", "fit", "compiled"),
    [
        ({"sample_weight": np.array([[2.0]])}, {}, {}),
        ({}, {"sample_weight": np.array([2.0])}, {}),
        ({}, {"class_weight": {0: 2.0}}, {}),
        ({}, {}, {"loss_weights": [2.0]}),
        ({}, {}, {"loss_weights": 2.0}),
    ],
)
def test_weights_scale_both_losses(beside, fit, compiled, batch):
    base = functional()
    fitted(base, {**batch, **beside}, fit=fit, compiled=compiled)
    np.testing.assert_allclose(weights_of(base), trained(moved(), 2.0), rtol=1e-5)


def test_class_weights_of_datasets_and_validation_data(batch):
    base = functional()
    dataset = tf.data.Dataset.from_tensor_slices(batch).batch(1)
    model = AdversarialRegularization(base, **FREE)
    model.compile(keras.optimizers.SGD(RATE), "mse", metrics=["mae"])
    history = model.fit(dataset, class_weight={0: 2.0}, validation_data=dataset, verbose=0).history
    np.testing.assert_allclose(weights_of(base), trained(moved(), 2.0), rtol=1e-5)
    assert history["mae"][0] == pytest.approx(abs((X @ W).item()), rel=1e-5)
    after = float((X @ weights_of(base)).item())
    assert history["val_clean_loss"][0] == pytest.approx(after**2, rel=1e-4)
    values = model.fit(batch, validation_data=batch, verbose=0).history
    assert "val_adversarial_loss" in values


def test_two_outputs(batch):
    first, second = dense(W), dense(-W)
    inputs = keras.Input((2,), name="feature")
    base = keras.Model(inputs, [first(inputs), second(inputs)])
    batch["other"] = -Y
    model, history = fitted(
        base,
        batch,
        ["mse", "mae"],
        label_key=["label", "other"],
        compiled={"loss_weights": [1.0, 0.5], "metrics": [["mae"], ["mae"]]},
    )
    answer = abs((X @ W).item())
    assert history["clean_loss"][0] == pytest.approx(answer**2 + 0.5 * answer, rel=1e-5)
    assert "adversarial_accuracy" not in history
    assert sum(name.endswith("mae") for name in history) == 2
    with pytest.raises(InputError, match="labels must be one for each output of the model, 2"):
        AdversarialRegularization.train_on_batch(model, {"feature": X}, Y)


@pytest.mark.parametrize("names", [("first", "second"), ("second", "first")])
def test_two_inputs_share_one_norm(names):
    w1, w2 = np.array([[2.0]]), np.array([[3.0], [6.0]])
    x1, x2 = np.array([[1.0]]), np.array([[4.0, 5.0]])
    inputs = [keras.Input((1,), name=names[0]), keras.Input((2,), name=names[1])]
    parts = [dense(w1), dense(w2)]
    total = keras.layers.Add()([part(one) for part, one in zip(parts, inputs, strict=True)])
    base = keras.Model(inputs, total)
    model = AdversarialRegularization(
        base, multiplier=1.0, step_size=0.1, grad_norm="l2", clip=False
    )
    model.compile(keras.optimizers.SGD(RATE), "mae")
    model.fit({names[0]: x1, names[1]: x2, "label": np.array([0.0])}, verbose=0)
    norm = np.sqrt((w1**2).sum() + (w2**2).sum())
    for part, x, w in zip(parts, (x1, x2), (w1, w2), strict=True):
        expected = w - RATE * (2 * x + 0.1 * w.T / norm).T
        np.testing.assert_allclose(weights_of(part), expected, rtol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_perturb_on_batch(form, batch):
    model = AdversarialRegularization(form(), **FREE)
    model.compile(loss=["mse"])
    made = model.perturb_on_batch(batch)
    np.testing.assert_allclose(made["feature"], moved(), rtol=1e-6)
    np.testing.assert_array_equal(made["label"], Y)
    longer = model.perturb_on_batch(batch, adv_step_size=0.2)
    np.testing.assert_allclose(longer["feature"], moved(0.2), rtol=1e-6)
    many = model.perturb_on_batch(batch, pgd_iterations=5, pgd_epsilon=4.5 * STEP)
    np.testing.assert_allclose(many["feature"], moved(4.5 * STEP), rtol=1e-6)
    bounded = model.perturb_on_batch(batch, clip_value_max={"feature": 2.0}, step_size=0.1)
    np.testing.assert_allclose(bounded["feature"], np.minimum(moved(0.1), 2.0), rtol=1e-6)
    with pytest.raises(InputError, match=r"setting must be one of .*received 'stepsize'"):
        model.perturb_on_batch(batch, stepsize=0.1)


@pytest.mark.parametrize("mask", [np.array([1.0, 0.0]), {"feature": [[1.0, 0.0]]}])
@pytest.mark.parametrize("start", [False, True])
def test_a_feature_mask_holds_features_still(mask, start, batch):
    model = AdversarialRegularization(
        functional(), feature_mask=mask, random_start=start, epsilon=0.05, **FREE
    )
    model.compile(loss="mse")
    made = model.perturb_on_batch(batch)["feature"] - X
    assert made[0, 1] == 0
    assert 0 < abs(made[0, 0]) <= 0.05
    with pytest.raises(InputError, match=r"feature_mask must be numbers in \[0, 1\]"):
        AdversarialRegularization(functional(), feature_mask=[2.0, 0.0])


def test_vectors_start_anywhere_in_the_l2_ball(batch):
    model = AdversarialRegularization(
        functional(), grad_norm="l2", random_start=True, epsilon=0.5, **FREE
    )
    model.compile(loss="mse")
    many = {"feature": np.repeat(X, 200, 0), "label": np.repeat(Y, 200, 0)}
    offsets = model.perturb_on_batch(many, step_size=1e-6)["feature"] - X
    lengths = np.linalg.norm(offsets, axis=1)
    assert lengths.max() <= 0.5 + 1e-4
    # A quarter of the disc lies within half of its radius.
    assert 0.15 < (lengths < 0.25).mean() < 0.35


@pytest.mark.parametrize("given", ["nothing", "predictions", "labeled_loss"])
@pytest.mark.parametrize("form", [functional, OfDictionaries])
def test_adversarial_loss(form, given):
    base, loss, calls = form(), keras.losses.MeanSquaredError(), []
    inputs = {"feature": tf.constant(X)}
    settings = {"step_size": STEP, "grad_norm": "infinity"}
    if given != "nothing":
        with tf.GradientTape() as tape:
            tape.watch(inputs["feature"])
            settings["predictions"] = base(inputs)
            if given == "labeled_loss":
                settings["labeled_loss"] = loss(tf.constant(Y), settings.pop("predictions"))
        settings["gradient_tape"] = tape

    def counted(features):
        calls.append(1)
        return base(features)

    found = adversarial_loss(inputs, tf.constant(Y), counted, loss, **settings)
    assert float(found) == pytest.approx(((moved() @ W - Y) ** 2).item(), rel=1e-5)
    assert len(calls) == (2 if given == "nothing" else 1)


def test_adversarial_loss_hands_arguments_to_the_model():
    base = sequential()
    base.add(keras.layers.BatchNormalization())
    found = adversarial_loss(
        {"feature": tf.constant(X)},
        tf.constant(Y),
        base,
        keras.losses.MeanSquaredError(),
        model_kwargs={"training": True},
    )
    # Batch norm of a single example returns 0.
    assert float(found) == pytest.approx(0.0, abs=1e-9)


def test_penalties_of_activations_count_for_images_and_neighbours(batch):
    inputs = keras.Input((2,), name="feature")
    layer = dense(W)
    layer.activity_regularizer = keras.regularizers.L2(0.1)
    base = keras.Model(inputs, layer(inputs))
    _, history = fitted(base, batch)
    answers = [(X @ W).item() ** 2, (moved() @ W).item() ** 2]
    assert history["clean_loss"][0] == pytest.approx(1.1 * answers[0], rel=1e-5)
    expected = 1.1 * answers[0] + (SHARE + 0.1) * answers[1]
    assert history["loss"][0] == pytest.approx(expected, rel=1e-5)
    gradient = 2 * (1.1 * (X @ W) * X.T + (SHARE + 0.1) * (moved() @ W) * moved().T)
    np.testing.assert_allclose(weights_of(base), W - RATE * gradient, rtol=1e-5)


@pytest.mark.parametrize(
    ("labels", "loss", "metric"),
    [
        (np.array([[0.0, 1.0, 1.0]]), "binary_crossentropy", 2 / 3),
        (np.array([[0.0, 1.0, 0.0]]), "categorical_crossentropy", 1.0),
        (np.array([[1]]), "sparse_categorical_crossentropy", 1.0),
    ],
)
def test_accuracy_of_each_kind_of_labels(labels, loss, metric):
    """Outputs are -1, 5 and -4 before sigmoid or softmax."""
    weights = np.array([[4.0, 1.0, -5.0], [-3.0, 1.0, 2.0]])
    base = sequential(weights)
    base.add(keras.layers.Activation("sigmoid" if loss.startswith("binary") else "softmax"))
    model = AdversarialRegularization(base, **FREE)
    model.compile(loss=loss)
    found = model.evaluate({"feature": X, "label": labels}, verbose=0, return_dict=True)
    assert found["adversarial_accuracy"] == pytest.approx(metric, abs=1e-6)


def test_generators_and_bad_dictionaries(batch):
    base = functional()
    model = AdversarialRegularization(base, **FREE)
    model.compile(keras.optimizers.SGD(RATE), "mse")
    model.fit((batch for _ in range(1)), steps_per_epoch=1, verbose=0)
    np.testing.assert_allclose(weights_of(base), trained(moved()), rtol=1e-5)

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            return batch

    with pytest.raises(InputError, match="class_weight must come with batches"):
        model.fit(Batches(), class_weight={0: 2.0}, verbose=0)
    with pytest.raises(InputError, match="sample_weight must be given once"):
        weights = {"sample_weight": np.ones(1)}
        model.fit({**batch, **weights}, sample_weight=np.ones(1), verbose=0)
    with pytest.raises(InputError, match=r"must hold the inputs of .*, feature; received a, b"):
        model.train_on_batch({"a": X, "b": X, "label": Y})
