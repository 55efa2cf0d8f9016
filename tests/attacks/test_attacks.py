"""One contract, over every attack, norm and image shape."""

import gc
import weakref

import keras
import numpy as np
import pytest

from robustcls._validation import InputError
from robustcls.attacks import FGSM, PGD
from robustcls.attacks.adapters import classifier_of

ATTACKS = [
    FGSM(epsilon=0.05),
    FGSM(epsilon=0.05, random_start=True),
    FGSM(epsilon=0.5, norm="2"),
    PGD(epsilon=0.05, steps=5),
    PGD(epsilon=0.05, steps=5, random_start=False),
    PGD(epsilon=0.05, steps=3, restarts=3, seed=4),
    PGD(epsilon=0.5, norm="2", steps=5),
]
SHAPES = [(8, 8, 1), (9, 7, 3)]


def brightness_model(shape, seed=0):
    """Three random directions as classes: far from constant, and cheap."""
    model = keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Conv2D(4, 3, activation="tanh"),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    generator = np.random.default_rng(seed)
    model.set_weights([generator.normal(0, 0.5, w.shape) for w in model.get_weights()])
    return model


def problem(shape, count=37, seed=0):
    model = brightness_model(shape)
    generator = np.random.default_rng(seed)
    images = generator.uniform(size=(count, *shape)).astype(np.float32)
    labels = np.argmax(model.predict(images, verbose=0), -1)
    labels[:3] = (labels[:3] + 1) % 3  # misclassified to begin with
    return model, images, labels


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_contract(attack, shape):
    model, images, labels = problem(shape)
    given = images.copy(), labels.copy()
    result = attack(model, images, labels, batch_size=16)
    np.testing.assert_array_equal(images, given[0])
    np.testing.assert_array_equal(labels, given[1])

    assert result.adversarial.dtype == np.float32
    assert result.adversarial.shape == images.shape
    assert result.success.dtype == bool
    offsets = (result.adversarial - images).reshape(len(images), -1)
    order = np.inf if attack.norm == "inf" else 2
    assert np.linalg.norm(offsets, order, axis=1).max() <= attack.epsilon + 1e-6
    assert result.adversarial.min() >= 0
    assert result.adversarial.max() <= 1

    predicted = np.argmax(model.predict(result.adversarial, verbose=0), -1)
    np.testing.assert_array_equal(result.success, predicted != labels)
    np.testing.assert_array_equal(result.adversarial[:3], images[:3])
    assert result.success[:3].all()
    assert 3 < result.success.sum() < len(images)
    assert result.robust_accuracy == pytest.approx(1 - result.success.mean())


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_result_depends_on_neither_batch_size_nor_order(attack):
    model, images, labels = problem((8, 8, 1))
    whole = attack(model, images, labels, batch_size=64)
    np.testing.assert_array_equal(
        whole.adversarial, attack(model, images, labels, batch_size=64).adversarial
    )
    for batch_size in (1, 5):
        parts = attack(model, images, labels, batch_size=batch_size)
        np.testing.assert_array_equal(whole.success, parts.success)
        np.testing.assert_allclose(whole.adversarial, parts.adversarial, atol=1e-5)


def test_seed_decides_the_random_start():
    model, images, labels = problem((8, 8, 1))
    first, second = (
        PGD(epsilon=0.01, steps=1, seed=seed)(model, images, labels).adversarial for seed in (0, 1)
    )
    assert np.abs(first - second).max() > 0


def test_more_work_never_helps_the_defender():
    model, images, labels = problem((8, 8, 1), count=200)
    accuracies = [
        attack(model, images, labels).robust_accuracy
        for attack in (
            PGD(epsilon=0.01, steps=10),
            PGD(epsilon=0.03, steps=10),
            PGD(epsilon=0.06, steps=10),
        )
    ]
    assert accuracies[0] > accuracies[1] > accuracies[2]
    one = PGD(epsilon=0.04, steps=2, restarts=1)(model, images, labels)
    many = PGD(epsilon=0.04, steps=2, restarts=5)(model, images, labels)
    assert many.success[one.success].all()


def test_fgsm_is_one_step_along_the_sign_of_the_gradient():
    """For a linear model the step can be written down."""
    model = keras.Sequential(
        [keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    weights = np.array([[1.0, -1], [2, -2], [-3, 3], [0.5, -0.5]])
    model.set_weights([weights, np.zeros(2)])
    images = np.full((1, 2, 2, 1), 0.5, np.float32)
    result = FGSM(epsilon=0.1)(model, images, np.array([0]))
    expected = 0.5 - 0.1 * np.sign(weights[:, 0])
    np.testing.assert_allclose(result.adversarial.reshape(-1), expected, atol=1e-6)
    result = FGSM(epsilon=0.1, norm="2")(model, images, np.array([0]))
    expected = 0.5 - 0.1 * weights[:, 0] / np.linalg.norm(weights[:, 0])
    np.testing.assert_allclose(result.adversarial.reshape(-1), expected, atol=1e-6)


def test_first_fooling_iterate_is_kept_though_later_ones_fail():
    """With a step of twice the ball the iterates swing; one of them fools the model."""
    model = keras.Sequential(
        [keras.Input((1, 1, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    model.set_weights([np.array([[8.0, -8.0]]), np.array([-3.6, 3.6])])
    images = np.full((1, 1, 1, 1), 0.5, np.float32)
    result = PGD(epsilon=0.1, steps=4, step_size=0.2, random_start=False)(
        model, images, np.array([0])
    )
    assert result.success.all()
    assert result.adversarial.item() == pytest.approx(0.4)


def test_attacks_are_traced_once_for_all_settings():
    model, images, labels = problem((8, 8, 1))
    for epsilon in (0.01, 0.02):
        for batch_size in (3, 64):
            PGD(epsilon=epsilon, steps=2)(model, images, labels, batch_size=batch_size)
            FGSM(epsilon=epsilon)(model, images, labels, batch_size=batch_size)
    compiled = classifier_of(model).compiled.values()
    assert [function.experimental_get_tracing_count() for function in compiled] == [1, 1]


def test_compiled_functions_do_not_keep_the_model_alive():
    model, images, labels = problem((8, 8, 1))
    FGSM()(model, images, labels)
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None


def test_weights_and_batch_norm_statistics_stay():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    before = model.get_weights()
    _, images, labels = problem((8, 8, 1))
    PGD(steps=2)(model, images, labels)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epsilon": 8}, r"epsilon must be in \(0, 1\] .* received 8. Did you mean 8/255\?"),
        ({"epsilon": 0}, "epsilon must be .* received 0"),
        ({"epsilon": float("nan")}, "epsilon must be .* received nan"),
        ({"norm": "l2"}, "norm must be one of 2, inf; received 'l2'. Did you mean '2'"),
        ({"steps": 0}, "steps must be an integer >= 1; received 0"),
        ({"restarts": 0}, "restarts must be an integer >= 1; received 0"),
        ({"step_size": -1.0}, "step_size must be a number > 0; received -1.0"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message):
        PGD(**settings)


def test_bad_inputs():
    model, images, labels = problem((8, 8, 1))
    attack = FGSM()
    cases = [
        ((model, images * 255, labels), r"images must be in \[0, 1\].*Did you mean images / 255"),
        ((model, (images * 255).astype(np.uint8), labels), "images must be float32 .* uint8"),
        ((model, np.where(images > 0.99, np.nan, images), labels), "images must be finite"),
        ((model, images[:, :4], labels), r"images must be of the model's shape \(8, 8, 1\)"),
        ((model, images[0], labels), r"non-empty array \[N, H, W, C\]"),
        ((model, images, np.eye(3)[labels]), r"labels must be 37 class ids.*argmax"),
        ((model, images, labels + 3), r"labels must be in \[0, 3\)"),
        ((model, images, labels[:4]), "labels must be 37 class ids"),
        ((None, images, labels), "model must be a keras.Model, a path or a function"),
        ((len, images, labels), "model must return one float array"),
        ((lambda x: x[:, 0, :3, 0], images, labels), "needs gradients; received the function"),
    ]
    for arguments, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            attack(*arguments)
        assert "\n" not in str(caught.value)


def test_nan_logits_are_refused():
    model, images, labels = problem((8, 8, 1))
    model.set_weights([np.full_like(w, np.nan) for w in model.get_weights()])
    with pytest.raises(InputError, match="finite logits"):
        FGSM()(model, images, labels)
