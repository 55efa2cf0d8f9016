"""Trainers on models of others: their pixels, their outputs, their forms."""

import copy
import logging
import pickle
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf

from robustcls import AdversarialRegularization, InputError, RobustTrainer
from robustcls.training.objectives import OBJECTIVES, NoiseFGSM

layers = keras.layers
SHAPE = (4, 4, 1)


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(0)
    return generator.uniform(size=(12, *SHAPE)).astype(np.float32), np.arange(12) % 3


def model(*last, width=3, first=()):
    return keras.Sequential(
        [keras.Input(SHAPE), *first, layers.Flatten(), layers.Dense(width), *last]
    )


class Subclassed(keras.Model):
    def __init__(self, last=None, width=3):
        super().__init__()
        self.flat, self.dense = layers.Flatten(), layers.Dense(width, activation=last)

    def call(self, inputs):
        return self.dense(self.flat(inputs))


def trainers(base, **settings):
    return (
        AdversarialRegularization(base, **settings),
        RobustTrainer(base, NoiseFGSM(epsilon=8 / 255), **settings),
    )


def neighbours(base, images, labels, **settings):
    trainer = AdversarialRegularization(base, **settings)
    trainer.compile()
    return trainer.perturb_on_batch(images, labels)


def test_pixels_of_other_ranges_are_refused_or_honoured(data):
    images, labels = data
    grey = np.round(255 * images).astype(np.uint8)
    for trainer in trainers(model()):
        trainer.compile()
        before = trainer.base_model.get_weights()
        for wrong, hint in (
            (grey, r"input_range=\(0, 255\)"),
            (255 * images, r"input_range=\(0, 255\)"),
            (2 * images - 1, r"input_range=\(-1, 1\)"),
            (9 * images - 5, "input_range=.*clip=False"),
        ):
            with pytest.raises(InputError, match=r"^images must be in \[0, 1\]; received.*" + hint):
                trainer.fit(wrong, labels, verbose=0)
        with pytest.raises(InputError, match="received values from nan"):
            trainer.train_on_batch(np.full_like(images, np.nan), labels)
        for one, two in zip(before, trainer.base_model.get_weights(), strict=True):
            np.testing.assert_array_equal(one, two)

    rescaled = model(first=[layers.Rescaling(1 / 255)])
    with pytest.raises(InputError, match=r"input_range=\(0, 255\)"):
        AdversarialRegularization(rescaled)
    moved = neighbours(rescaled, grey, labels, input_range=(0, 255), step_size=8 / 255)
    assert np.abs(moved - grey).max() == pytest.approx(8, abs=1e-4)
    assert moved.max() <= 255
    for trainer in trainers(rescaled, input_range=(0, 255)):
        trainer.compile()
        trainer.fit(grey, labels, verbose=0)
        with pytest.raises(InputError, match=r"\[0, 255\], the trainer's.*0 \+ 255 \* images"):
            trainer.fit(images, labels, verbose=0)
    assert np.isfinite(neighbours(model(), 9 * images, labels, clip=False)).all()


def test_radii_of_objectives_are_scaled_to_the_range(data):
    """A model of grey levels trains as its twin of images in [0, 1]."""
    images, labels = data
    losses = []
    for scaled in (False, True):
        keras.utils.set_random_seed(1)
        base = model(first=[layers.Rescaling(1 / 255)] if scaled else [])
        for name in ("n_fgsm", "ibp"):
            trainer = RobustTrainer(
                base, OBJECTIVES[name](epsilon=0.1), input_range=(0, 255) if scaled else None
            )
            trainer.compile(keras.optimizers.SGD(0.1))
            losses.append(trainer.train_on_batch(255 * images if scaled else images, labels))
    assert losses[:2] == pytest.approx(losses[2:], rel=1e-4)


def joined(layer, activation, width, count=2):
    """A model that ends in several heads and in what joins them."""
    images = keras.Input(SHAPE)
    features = layers.Flatten()(images)
    heads = [layers.Dense(width, activation)(features) for _ in range(count)]
    return keras.Model(images, layer(heads))


SOFTMAX = {
    "averaged": lambda: joined(layers.Average(), "softmax", 3),
    "layer": lambda: model(layers.Softmax()),
    "activation": lambda: model(layers.Activation("softmax"), layers.Dropout(0.1)),
    "reshaped": lambda: model(layers.Softmax(), layers.Reshape((3,))),
    "nested": lambda: keras.Sequential([keras.Input(SHAPE), model(layers.Softmax())]),
    "subclassed": lambda: Subclassed("softmax"),
    "unbuilt": lambda: keras.Sequential([layers.Flatten(), layers.Dense(3, "softmax")]),
}
LOGITS = {
    "rescaled": lambda: model(layers.Rescaling(0.1)),
    "dropout": lambda: model(layers.Dropout(0.1)),
    "reshaped": lambda: model(layers.Reshape((3,))),
    "nested": lambda: keras.Sequential([keras.Input(SHAPE), model()]),
    "subclassed": lambda: Subclassed(),
    "unbuilt": lambda: keras.Sequential([layers.Flatten(), layers.Dense(3)]),
}


def test_heads_of_one_sigmoid_each_are_sigmoids(data):
    images, labels = data
    for activation, loss in (("sigmoid", "binary_crossentropy"), (None, "sparse_categorical")):
        trainer = AdversarialRegularization(joined(layers.Concatenate(), activation, 1, 3))
        trainer.compile()
        assert trainer.losses_of_outputs.each[0].name.startswith(loss)
        rows = np.eye(3, dtype=np.float32)[labels] if activation else labels
        assert np.isfinite(trainer.train_on_batch(images, rows)).all()


def test_images_without_a_gradient_are_one_line(data):
    images, labels = data
    pixels = keras.Input(SHAPE, dtype="uint8")
    scaled = layers.Rescaling(1 / 255)(pixels)
    base = keras.Model(pixels, layers.Dense(3)(layers.Flatten()(scaled)))
    for objective in (NoiseFGSM(), OBJECTIVES["free"](replays=2), OBJECTIVES["nsl"]()):
        trainer = RobustTrainer(base, objective, input_range=(0, 255))
        trainer.compile()
        with pytest.raises(InputError, match="base_model must be differentiable; its loss has no"):
            trainer.train_on_batch(255 * images, labels)


FROM_LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.mark.parametrize("name", SOFTMAX)
def test_a_loss_from_logits_is_refused_for_softmax(name, data):
    images, labels = data
    trainer = AdversarialRegularization(SOFTMAX[name]())
    with pytest.raises(InputError, match=r"loss must be computed from prob.*from_logits=False"):
        trainer.compile(loss=FROM_LOGITS)
        trainer.train_on_batch(images, labels)
    trainer.compile(loss="sparse_categorical_crossentropy")
    if name == "nested":
        logs = trainer.train_on_batch(images, labels, return_dict=True)
        assert 0 <= logs["adversarial_accuracy"] <= 1


@pytest.mark.parametrize("name", LOGITS)
def test_a_loss_from_probabilities_is_refused_for_logits(name, data):
    images, labels = data
    trainer = AdversarialRegularization(LOGITS[name]())
    with pytest.raises(InputError, match=r"loss must be computed from logits.*from_logits=True"):
        trainer.compile(loss="sparse_categorical_crossentropy")
        trainer.train_on_batch(images, labels)
    trainer.compile()
    if name == "rescaled":
        trainer.train_on_batch(images, labels)


def test_softmax_and_one_number_train_as_their_logits(data):
    """Objectives take logarithms of probabilities, and 0 beside a single logit."""
    images, labels = data
    found = {}
    for kind, last, width, binary in (
        ("logits", [], 3, False),
        ("softmax", [layers.Softmax()], 3, False),
        ("logit", [], 1, True),
        ("sigmoid", [layers.Activation("sigmoid")], 1, True),
        ("flat", [layers.Reshape(())], 1, True),
    ):
        keras.utils.set_random_seed(2)
        base = model(*last, width=width)
        trainer = RobustTrainer(base, NoiseFGSM(epsilon=0.1))
        trainer.compile(keras.optimizers.SGD(0.1), metrics=["accuracy"])
        trainer.train_on_batch(images, labels % 2 if binary else labels)
        found[kind] = base.get_weights()[0]
    np.testing.assert_allclose(found["softmax"], found["logits"], atol=1e-5)
    np.testing.assert_allclose(found["sigmoid"], found["logit"], atol=1e-5)
    np.testing.assert_allclose(found["flat"], found["logit"], atol=1e-5)
    regularized = AdversarialRegularization(model(layers.Reshape(()), width=1))
    regularized.compile()
    assert 0 <= regularized.train_on_batch(images, labels % 2, return_dict=True)["loss"] < 9
    with pytest.raises(InputError, match=r"a score for each class.* ends in 3 sigmoids"):
        trainer = RobustTrainer(model(layers.Activation("sigmoid")), NoiseFGSM())
        trainer.compile()
        trainer.train_on_batch(images, labels)
    with pytest.raises(InputError, match=r"labels must be class ids.*do not add up to 1"):
        trainer = RobustTrainer(model(), NoiseFGSM())
        trainer.compile()
        trainer.train_on_batch(images, np.ones((12, 3), np.float32))


@pytest.mark.parametrize("last", [None, "sigmoid"])
def test_accuracy_of_one_number(last, data):
    """A model that always says 1 is right for labels 1, and wrong for labels 0."""
    images, _ = data
    base = keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Flatten(),
            layers.Dense(1, last, bias_initializer=lambda *_, **__: [9.0]),
        ]
    )
    trainer = AdversarialRegularization(base)
    trainer.compile()
    for label in (0, 1):
        logs = trainer.evaluate(images, np.full(12, label), verbose=0, return_dict=True)
        assert logs["adversarial_accuracy"] == label
    with pytest.raises(InputError, match="loss must be binary for a model of one output"):
        trainer.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    trainer.compile(loss="hinge")
    logs = trainer.evaluate(images, np.ones(12), verbose=0, return_dict=True)
    assert "adversarial_accuracy" not in logs


def test_losses_without_a_name_and_outputs_without_a_width(data):
    images, labels = data
    trainer = AdversarialRegularization(model())
    sparse = keras.losses.sparse_categorical_crossentropy
    trainer.compile(loss=lambda wanted, found: sparse(wanted, found, from_logits=True))
    assert "adversarial_accuracy" in trainer.train_on_batch(images, labels, return_dict=True)
    trainer = AdversarialRegularization(Subclassed(width=1))
    trainer.compile()
    with pytest.raises(InputError, match="loss must be binary for a model of one output"):
        trainer.train_on_batch(images, 0 * labels)
    trainer = RobustTrainer(Subclassed("sigmoid", 1), NoiseFGSM())
    trainer.compile(loss="binary_crossentropy", metrics=["accuracy"])
    logs = trainer.train_on_batch(images, labels % 2, return_dict=True)
    assert 0 < logs["accuracy"] < 1
    with pytest.raises(InputError, match="labels must be one array"):
        trainer.train_on_batch(images, [labels, labels])
    for mask, received in (("x", "'x'"), (np.ones((3, 3)), r"\(3, 3\)")):
        with pytest.raises(InputError, match=rf"feature_mask must be .*received {received}"):
            neighbours(model(), images, labels, feature_mask=mask)


def test_labels_that_do_not_fit(data):
    images, labels = data
    trainer = AdversarialRegularization(model())
    trainer.compile()
    with pytest.raises(InputError, match=r"labels must be class ids \[N\].*CategoricalCross"):
        trainer.train_on_batch(images, np.eye(3)[labels])
    with pytest.raises(InputError, match=r"labels must be class ids in \[0, 3\); received 3"):
        trainer.train_on_batch(images, labels + 1)
    trainer.compile(loss=keras.losses.BinaryCrossentropy(from_logits=True))
    with pytest.raises(InputError, match=r"labels must be a row \[N, 3\].*SparseCategorical"):
        trainer.train_on_batch(images, labels)


@pytest.mark.parametrize("form", ["subclassed", "unbuilt"])
def test_unbuilt_models(form, data):
    images, labels = data
    for first in ("fit", "train_on_batch", "evaluate", "predict"):
        trainer = trainers(LOGITS[form]())[first == "fit"]
        trainer.compile(metrics=["accuracy"])
        if first == "predict":
            assert trainer.predict(images, verbose=0).shape == (12, 3)
            continue
        getattr(trainer, first)(images, labels, **{} if "batch" in first else {"verbose": 0})
        assert len(trainer.base_model.get_weights()) == 2


def test_batch_dictionaries_and_several_inputs(data):
    images, labels = data
    for trainer in trainers(Subclassed()):
        trainer.compile(metrics=["accuracy"])
        dataset = tf.data.Dataset.from_tensor_slices({"image": images, "label": labels}).batch(6)
        trainer.fit(dataset, validation_data=dataset, verbose=0)
    inputs = [keras.Input(SHAPE), keras.Input(SHAPE)]
    both = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(layers.Add()(inputs))))
    with pytest.raises(InputError, match=r"base_model must have one input.*received 2 inputs"):
        RobustTrainer(both, NoiseFGSM())
    trainer = AdversarialRegularization(both)
    trainer.compile()
    trainer.fit([images, images], labels, verbose=0)
    first, second = trainer.perturb_on_batch([images, images], labels)
    np.testing.assert_allclose(first, second)
    assert np.abs(first - images).max() == pytest.approx(8 / 255, rel=1e-4)


def test_what_is_no_model_to_train(data):
    inner = AdversarialRegularization(model())
    for make in (AdversarialRegularization, lambda base: RobustTrainer(base, NoiseFGSM())):
        with pytest.raises(InputError, match="received the trainer adversarial_regularization"):
            make(inner)
        with pytest.raises(InputError, match="received the trainer adversarial_regularization"):
            make(keras.Sequential([keras.Input(SHAPE), inner]))
        with pytest.raises(InputError, match=r"must be a keras\.Model; received function"):
            make(lambda images: images)
    with pytest.raises(InputError, match="objective must be an Objective"):
        RobustTrainer(model(), "pgd")

    class Owner(Subclassed):
        """Has a part of the name that trainers have."""

        base_model = None

    RobustTrainer(Owner(), NoiseFGSM())
    cast = layers.Lambda(lambda x: tf.cast(tf.cast(x, tf.int32), tf.float32), output_shape=SHAPE)
    still = model(first=[cast])
    images, labels = data
    trainer = AdversarialRegularization(still)
    trainer.compile()
    with pytest.raises(InputError, match="base_model must be differentiable"):
        trainer.fit(images, labels, verbose=0)


def test_a_trainer_is_not_saved_in_place_of_its_model(data, tmp_path):
    for trainer in trainers(model()):
        for act in (
            lambda trainer: keras.models.save_model(trainer, tmp_path / "model.keras"),
            keras.models.clone_model,
            copy.deepcopy,
            pickle.dumps,
        ):
            with pytest.raises(InputError, match="must be the trainer's base_model to be saved"):
                act(trainer)
        trainer.save(tmp_path / "base.keras")
        assert type(keras.models.load_model(tmp_path / "base.keras")) is keras.Sequential


def test_weights_of_a_trainer_are_those_of_its_model(data, tmp_path):
    images, labels = data
    for trainer in trainers(model()):
        trainer.compile(keras.optimizers.SGD(0.1, momentum=0.9))
        trainer.fit(images, labels, verbose=0)
        path = tmp_path / "model.weights.h5"
        trainer.save_weights(path)
        assert getattr(trainer.base_model, "optimizer", None) is None
        bare, again = model(), next(t for t in trainers(model()) if type(t) is type(trainer))
        bare.load_weights(path)
        again.compile(keras.optimizers.SGD(0.1, momentum=0.9))
        again.optimizer.build(again.trainable_variables)
        again.load_weights(path)
        for other in (bare, again.base_model):
            for a, b in zip(other.get_weights(), trainer.base_model.get_weights(), strict=True):
                np.testing.assert_array_equal(a, b)
        for a, b in zip(again.optimizer.variables, trainer.optimizer.variables, strict=True):
            np.testing.assert_array_equal(a, b)
        assert again.optimizer.iterations > 0
        # Without an optimizer, and as version 0.1 saved them.
        other = tmp_path / "other.weights.h5"
        for save in (bare.save_weights, partial(keras.Model.save_weights, trainer)):
            save(other, overwrite=True)
            again.load_weights(other)
            for a, b in zip(again.base_model.get_weights(), bare.get_weights(), strict=True):
                np.testing.assert_array_equal(a, b)


MODES = [
    pytest.param(name, mode, marks=[] if name in often else pytest.mark.exhaustive)
    for mode, often in (
        ("mixed_bfloat16", ("adversarial", "ibp")),
        ("float64", ("n_fgsm",)),
        ("eager", ("adversarial", "free")),
    )
    for name in ("adversarial", *OBJECTIVES)
]


@pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions")
@pytest.mark.parametrize(("name", "mode"), MODES)
def test_precisions_and_eager_steps(name, mode, data):
    images, labels = data
    before = keras.config.dtype_policy()
    tf.config.run_functions_eagerly(mode == "eager")
    if mode != "eager":
        keras.config.set_dtype_policy(mode)
    try:
        base = keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                layers.Conv2D(2, 3),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.Flatten(),
                layers.Dense(3),
            ]
        )
        few = {"steps": 2} if name in ("pgd", "trades", "mart") else {}
        few |= {"replays": 2} if name == "free" else {}
        few |= {"warmup_epochs": 0, "ramp_epochs": 1} if name.endswith("ibp") else {}
        if name == "adversarial":
            trainer = AdversarialRegularization(base, iterations=2, epsilon=0.05, random_start=True)
        else:
            trainer = RobustTrainer(base, OBJECTIVES[name](**few))
        trainer.compile(keras.optimizers.SGD(0.01), metrics=["accuracy"])
        pictures = np.tile(images, (1, 2, 2, 1))
        logs = trainer.fit(pictures, labels, batch_size=6, verbose=0).history
        assert np.isfinite(logs["loss"]).all()
        assert np.isfinite(trainer.evaluate(pictures, labels, verbose=0)).all()
    finally:
        tf.config.run_functions_eagerly(False)
        keras.config.set_dtype_policy(before)


@pytest.mark.exhaustive
def test_many_models_in_a_row_are_quiet(data, caplog):
    """TensorFlow warns of the fifth tracing in a row of the same function."""
    images, labels = data
    with caplog.at_level(logging.WARNING):
        for _ in range(6):
            trainer = AdversarialRegularization(model())
            trainer.compile(metrics=["accuracy"])
            trainer.fit(images, labels, verbose=0)
            trainer.evaluate(images, labels, verbose=0)
            trainer.predict(images, verbose=0)
            trainer.perturb_on_batch(images, labels)
    assert "retracing" not in caplog.text
