"""One contract, over every attack, norm and image shape."""

import gc
import weakref

import keras
import numpy as np
import pytest

from robustcls._validation import InputError
from robustcls.attacks import APGD, ATTACKS, DDN, FAB, FGSM, FMN, PGD, AutoAttack, Fast, Square
from robustcls.classifiers.adapters import classifier_of

SMALL = {"steps": 8, "seed": 3}
ROWS = [
    FGSM(epsilon=0.05),
    FGSM(epsilon=0.05, random_start=True),
    FGSM(epsilon=0.5, norm="2"),
    FGSM(epsilon=0.5, norm="2", random_start=True),
    PGD(epsilon=0.05, steps=5),
    PGD(epsilon=0.05, steps=5, random_start=False),
    PGD(epsilon=0.05, steps=3, restarts=3, seed=4),
    PGD(epsilon=0.5, norm="2", steps=5),
    APGD(epsilon=0.05, **SMALL),
    APGD(epsilon=0.05, loss="dlr", restarts=2, **SMALL),
    APGD(epsilon=0.05, loss="dlr", target_classes=9, **SMALL),
    APGD(epsilon=0.5, norm="2", **SMALL),
    APGD(epsilon=0.5, norm="2", loss="dlr", target_classes=9, **SMALL),
    FAB(epsilon=0.05, **SMALL),
    FAB(epsilon=0.5, norm="2", target_classes=2, restarts=2, **SMALL),
    Square(epsilon=0.05, queries=60),
    Square(epsilon=0.5, norm="2", queries=60),
    AutoAttack(epsilon=0.05, queries=20, **SMALL),
    AutoAttack(epsilon=0.5, norm="2", queries=20, **SMALL),
    AutoAttack(epsilon=2.5, norm="1", queries=20, **SMALL),
    FMN(epsilon=0.05, steps=40),
    FMN(epsilon=0.5, norm="2", steps=40),
    FMN(epsilon=2.5, norm="1", steps=40),
    FMN(epsilon=1, norm="0", steps=40),
    DDN(epsilon=0.5, steps=40),
    Fast(epsilon=0.03),
    Fast(epsilon=0.3, norm="2"),
]
# An attack that has no row yet, a user's for example, is held to the contract all the same.
NEW = [
    attack(**ball)
    for attack in ATTACKS.values()
    if attack not in {type(row) for row in ROWS}
    for ball in ({"epsilon": 0.05}, {"epsilon": 0.5, "norm": "2"})
]
# Suites do in every norm what their attacks do; a test of its own shows `fast` image by image.
ONCE = [
    pytest.param(row, marks=[pytest.mark.exhaustive] * (type(row) is Fast or row.norm != "inf"))
    if isinstance(row, (AutoAttack, Fast))
    else row
    for row in ROWS + NEW
]
SHAPES = [pytest.param((8, 8, 1), marks=pytest.mark.exhaustive), (9, 7, 3)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("attack", ROWS + NEW, ids=str)
def test_contract(attack, shape, problem):
    model, images, labels = problem(shape)
    given = images.copy(), labels.copy()
    result = attack(model, images, labels, batch_size=16)
    np.testing.assert_array_equal(images, given[0])
    np.testing.assert_array_equal(labels, given[1])

    assert result.adversarial.dtype == np.float32
    assert result.adversarial.shape == images.shape
    assert result.success.dtype == bool
    offsets = (result.adversarial - images).reshape(len(images), -1)
    assert np.linalg.norm(offsets, float(attack.norm), axis=1).max() <= attack.epsilon + 1e-6
    assert result.adversarial.min() >= 0
    assert result.adversarial.max() <= 1

    predicted = np.argmax(model(result.adversarial), -1)
    np.testing.assert_array_equal(result.success, predicted != labels)
    np.testing.assert_array_equal(result.adversarial[:3], images[:3])
    assert result.success[:3].all()
    assert attack in NEW or 3 < result.success.sum() < len(images)
    assert result.robust_accuracy == pytest.approx(1 - result.success.mean())


@pytest.mark.parametrize("attack", ONCE, ids=str)
def test_result_depends_on_neither_batch_size_nor_order(attack, problem):
    model, images, labels = problem((8, 8, 1), count=9)
    whole = attack(model, images, labels, batch_size=64)
    np.testing.assert_array_equal(
        whole.adversarial, attack(model, images, labels, batch_size=64).adversarial
    )
    for batch_size in (1, 4):
        parts = attack(model, images, labels, batch_size=batch_size)
        np.testing.assert_array_equal(whole.success, parts.success)
        np.testing.assert_allclose(whole.adversarial, parts.adversarial, atol=1e-5)


def test_seed_decides_the_random_start(problem):
    model, images, labels = problem((8, 8, 1))
    first, second = (
        PGD(epsilon=0.01, steps=1, seed=seed)(model, images, labels).adversarial for seed in (0, 1)
    )
    assert np.abs(first - second).max() > 0


def test_position_and_company_of_an_image_do_not_matter(problem):
    """Random numbers belong to the image, so a part of the set gets the same attacks."""
    model, images, labels = problem((8, 8, 1))
    part = np.array([30, 4, 17, 9, 33])
    for attack in (PGD(epsilon=0.05, steps=3), Square(epsilon=0.05, queries=20)):
        whole = attack(model, images, labels)
        some = attack(model, images[part], labels[part])
        np.testing.assert_array_equal(some.success, whole.success[part])
        np.testing.assert_allclose(some.adversarial, whole.adversarial[part], atol=1e-5)


@pytest.mark.parametrize("attack", ONCE, ids=str)
def test_without_active_set_the_same_images_fall(attack, problem):
    model, images, labels = problem((8, 8, 1), count=13)
    with_it = attack(model, images, labels, batch_size=4)
    without = attack(model, images, labels, batch_size=4, active_set=False)
    np.testing.assert_array_equal(with_it.success, without.success)
    np.testing.assert_allclose(with_it.adversarial, without.adversarial, atol=1e-5)


def test_active_set_saves_the_work_on_fallen_images(problem):
    model, images, labels = problem((8, 8, 1), count=40)
    seen = []

    def scores(batch):
        seen.append(len(batch))
        return model(batch, training=False).numpy()

    attack = Square(epsilon=0.1, queries=30)
    stands = (~attack(scores, images, labels).success).sum()
    assert 0 < stands < 25
    with_it, seen[:] = sum(seen), []
    attack(scores, images, labels, active_set=False)
    started = (labels == np.argmax(model(images), -1)).sum()
    # Two looks at 8 images to get to know the model, one at all, then 30 at those it gets right.
    assert sum(seen) == 16 + 40 + 30 * started
    assert 16 + 40 + 30 * stands < with_it < sum(seen)


def test_more_work_never_helps_the_defender(problem):
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


def test_over_reuses_what_fell_within_smaller_balls(problem):
    model, images, labels = problem((8, 8, 1), count=100)
    attack = PGD(steps=5)
    results = attack.over(model, images, labels, epsilons=[0.06, 0.01, 0.03])
    assert list(results) == [0.01, 0.03, 0.06]
    small, middle, large = results.values()
    alone = PGD(epsilon=0.01, steps=5)(model, images, labels)
    np.testing.assert_array_equal(small.adversarial, alone.adversarial)
    assert 3 < small.success.sum() < middle.success.sum() < large.success.sum()
    for less, more, epsilon in ((small, middle, 0.03), (middle, large, 0.06)):
        assert more.success[less.success].all()
        fallen = less.success
        np.testing.assert_array_equal(more.adversarial[fallen], less.adversarial[fallen])
        offsets = np.abs(more.adversarial - images).max((1, 2, 3))
        assert offsets.max() <= epsilon + 1e-6
        assert offsets[~less.success].max() > epsilon - 1e-6
    with pytest.raises(InputError, match="epsilons must be one or more radii"):
        attack.over(model, images, labels, epsilons=[])
    with pytest.raises(InputError, match=r"epsilon must be in \(0, 1\]"):
        attack.over(model, images, labels, epsilons=[0.1, 8])


def test_targeted_pgd_reaches_the_class_it_is_given(problem):
    model, images, _ = problem((9, 7, 3))
    predicted = np.argmax(model(images), -1)
    targets = (predicted + 1) % 5
    targets[:2] = predicted[:2]
    result = PGD(epsilon=0.2, steps=20, targeted=True)(model, images, targets)
    reached = np.argmax(model(result.adversarial), -1) == targets
    np.testing.assert_array_equal(result.success, reached)
    np.testing.assert_array_equal(result.adversarial[:2], images[:2])
    assert reached[:2].all()
    assert reached.sum() > 5
    random_hits = PGD(epsilon=0.2, steps=20)(model, images, predicted).adversarial
    untargeted = np.argmax(model(random_hits), -1) == targets
    assert reached.sum() > untargeted[2:].sum() + 2


@pytest.mark.parametrize("attack", [FGSM(epsilon=0.05), APGD(epsilon=0.05, steps=5)], ids=str)
def test_a_model_that_is_very_sure_is_no_more_robust(attack, problem):
    """Logits of two classes, a thousand times over: their probabilities are 0 and 1."""
    model, images, labels = problem((8, 8, 1), classes=2, fresh=True)
    expected = attack(model, images, labels)
    assert 3 < expected.success.sum() < len(images)
    model.layers[-1].set_weights([1000 * w for w in model.layers[-1].get_weights()])
    found = attack(model, images, labels)
    np.testing.assert_array_equal(found.success, expected.success)
    np.testing.assert_allclose(found.adversarial, expected.adversarial, atol=1e-5)


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


def test_attacks_are_traced_once_for_all_settings(problem):
    model, images, labels = problem((8, 8, 1), fresh=True)
    for epsilon in (0.01, 0.02):
        for batch_size in (3, 64):
            PGD(epsilon=epsilon, steps=2)(model, images, labels, batch_size=batch_size)
            FGSM(epsilon=epsilon)(model, images, labels, batch_size=batch_size)
    compiled = classifier_of(model).compiled.values()
    assert [function.experimental_get_tracing_count() for function in compiled] == [1, 1]


def test_compiled_functions_do_not_keep_the_model_alive(problem):
    model, images, labels = problem((8, 8, 1), fresh=True)
    FGSM()(model, images, labels)
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None


def test_weights_and_batch_norm_statistics_stay(problem):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(5),
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


def test_bad_inputs(problem):
    model, images, labels = problem((8, 8, 1))
    attack = FGSM()
    cases = [
        ((model, images * 255, labels), r"images must be in \[0, 1\].*Did you mean images / 255"),
        ((model, (images * 255).astype(np.uint8), labels), "images must be float32 .* uint8"),
        ((model, np.where(images > 0.99, np.nan, images), labels), "images must be finite"),
        ((model, images[:, :4], labels), r"images must be of the model's shape \(8, 8, 1\)"),
        ((model, images[0], labels), r"non-empty array \[N, H, W, C\]"),
        ((model, [images[0], images[1, :4]], labels), "images must be one array; received parts"),
        ((model, images, np.ones((37, 4))), "a column for each of the model's 5 classes"),
        ((model, images, labels + 5), r"labels must be in \[0, 5\)"),
        ((model, images, labels[:4]), "labels must be 37 class ids"),
        ((None, images, labels), "model must be a keras.Model, a path or a function"),
        ((len, images, labels), "model must return one float array"),
        ((lambda x: x[:, 0, :3, 0], images, labels % 3), "needs gradients; received the function"),
    ]
    for arguments, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            attack(*arguments)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "attack",
    [
        PGD(epsilon=0.05, steps=4),
        PGD(epsilon=0.5, norm="2", steps=4),
        APGD(epsilon=0.05, steps=4),
        FAB(epsilon=0.5, norm="2", steps=4),
    ],
    ids=str,
)
def test_gradients_that_are_not_finite_leave_the_images_finite(attack, problem):
    """The root has no gradient at 0, where many pixels lie: infinity times zero is NaN."""
    model, images, labels = problem((8, 8, 1))
    images = np.where(images < 0.3, 0, images).astype(np.float32)
    roots = keras.layers.Lambda(lambda x: keras.ops.sqrt(keras.ops.relu(x - 0.4)))
    rooted = keras.Sequential([keras.Input((8, 8, 1)), roots, *model.layers])
    labels = np.argmax(rooted(images), -1)
    result = attack(rooted, images, labels)
    assert np.isfinite(result.adversarial).all()
    predicted = np.argmax(rooted(result.adversarial), -1)
    np.testing.assert_array_equal(result.success, predicted != labels)
    assert result.success.any()


def test_logits_that_turn_nan_on_the_way_are_refused(problem):
    """Counted as fallen, such an image would have a bug of the model pass for an attack."""
    model, images, labels = problem((8, 8, 1))
    images = np.clip(images, 0.3, 1)
    logs = keras.layers.Lambda(lambda x: x + 0 * keras.ops.log(x - 0.28))
    broken = keras.Sequential([keras.Input((8, 8, 1)), logs, *model.layers])
    labels = np.argmax(broken(images), -1)
    images, labels = images[labels != 0], labels[labels != 0]  # The highest of NaNs is class 0.
    for attack in (PGD(epsilon=0.1, random_start=False), APGD(epsilon=0.1), Square(epsilon=0.1)):
        with pytest.raises(InputError, match=r"return finite logits; .* of \d+ images"):
            attack(broken, images, labels)


def test_nan_logits_are_refused(problem):
    model, images, labels = problem((8, 8, 1), fresh=True)
    model.set_weights([np.full_like(w, np.nan) for w in model.get_weights()])
    with pytest.raises(InputError, match="finite logits"):
        FGSM()(model, images, labels)
