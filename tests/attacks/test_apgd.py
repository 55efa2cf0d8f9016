"""Auto-PGD: its schedule, its strength, and a case that can be computed by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from robustcls._validation import InputError
from robustcls.attacks import APGD, PGD, losses
from robustcls.attacks.auto_pgd.apgd import AutoStep, checkpoint_periods


def test_checkpoints_are_the_published_ones():
    periods = checkpoint_periods(100)
    assert len(periods) == 100
    at = np.flatnonzero(periods)
    # Shares of the steps in section 3 of the paper: 0.22, 0.41, 0.57, 0.70, 0.80, 0.87, ...
    np.testing.assert_array_equal(at, [22, 41, 57, 70, 80, 87, 93, 99])
    np.testing.assert_array_equal(np.array(periods)[at], np.diff([0, *at]))
    assert checkpoint_periods(1) == [0]


def test_losses_against_their_definitions():
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(6, 5)).astype(np.float32)
    labels = np.array([np.argmax(logits[0]), 1, 2, 3, 4, 0])
    targets = (labels + 2) % 5
    dlr = losses.dlr(tf.constant(logits), tf.constant(labels)).numpy()
    aimed = losses.targeted_dlr(
        tf.constant(logits), tf.constant(labels), tf.constant(targets)
    ).numpy()
    for row in range(6):
        z, y, t = logits[row], labels[row], targets[row]
        first, _, third, fourth = sorted(z, reverse=True)[:4]
        other = max(z[k] for k in range(5) if k != y)
        assert dlr[row] == pytest.approx(-(z[y] - other) / (first - third), rel=1e-5)
        expected = -(z[y] - z[t]) / (first - (third + fourth) / 2)
        assert aimed[row] == pytest.approx(expected, rel=1e-5)
    odds = losses.cross_entropy(tf.constant(logits), tf.constant(labels)).numpy()
    p = tf.nn.softmax(logits).numpy()[np.arange(6), labels]
    np.testing.assert_allclose(odds, np.log((1 - p) / p), rtol=1e-4)
    np.testing.assert_allclose(losses.dlr(tf.constant(7 * logits), tf.constant(labels)), dlr, 1e-4)


@pytest.mark.parametrize(
    ("norm", "epsilon"), [("inf", 0.02), pytest.param("2", 0.4, marks=pytest.mark.long)]
)
def test_at_least_as_strong_as_pgd(trained, norm, epsilon):
    model, images, labels = trained
    images, labels = images[:64], labels[:64]
    pgd = PGD(epsilon=epsilon, norm=norm, steps=20)(model, images, labels)
    assert 0.1 < pgd.robust_accuracy < 0.7
    for settings in ({}, {"loss": "dlr"}, {"loss": "dlr", "target_classes": 9}):
        apgd = APGD(epsilon=epsilon, norm=norm, steps=20, **settings)(model, images, labels)
        assert apgd.robust_accuracy <= pgd.robust_accuracy


def test_halving_the_step_finds_a_peak_that_long_steps_jump_over():
    """The loss is highest at 0.6; steps of 2 epsilon swing between 0.1 and 0.9."""
    image = keras.Input((1, 1, 1))
    x = keras.layers.Flatten()(image)
    peak = -10 * keras.ops.abs(x - 0.6) - 0.1
    model = keras.Model(image, keras.layers.Concatenate()([0 * x, peak]))
    images, labels = np.full((1, 1, 1, 1), 0.5, np.float32), np.array([0])
    for settings in ({}, {"norm": "2"}):
        found = APGD(epsilon=0.4, steps=100, **settings)(model, images, labels)
        assert not found.success.any()
        assert found.adversarial.item() == pytest.approx(0.6, abs=0.002)
    swinging = PGD(epsilon=0.4, steps=100, step_size=0.8)(model, images, labels)
    assert abs(swinging.adversarial.item() - 0.6) > 0.02


def test_the_distance_to_a_linear_boundary():
    """For two classes and norm "2" the nearest boundary point is |w.x + b| / ||w|| away."""
    generator = np.random.default_rng(0)
    model = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    kernel = generator.normal(size=(16, 2)).astype(np.float32)
    kernel -= kernel.mean(0)
    model.set_weights([kernel, np.array([0.1, -0.2], np.float32)])
    images = generator.uniform(0.4, 0.6, (20, 4, 4, 1)).astype(np.float32)
    logits = model.predict(images, verbose=0)
    labels = logits.argmax(1)
    normal = kernel[:, 0] - kernel[:, 1]
    lead = np.abs(logits[:, 0] - logits[:, 1])
    for norm, dual in (("2", 2), ("inf", 1)):
        distances = lead / np.linalg.norm(normal, dual)
        epsilon = float(np.median(distances))
        assert distances.max() < 0.4
        fallen = APGD(epsilon=epsilon, norm=norm, steps=20)(model, images, labels).success
        expected = distances < epsilon
        clear = np.abs(distances / epsilon - 1) > 0.01
        np.testing.assert_array_equal(fallen[clear], expected[clear])
        assert expected.sum() == 10


def test_dlr_needs_logits_to_compare(problem):
    model, images, labels = problem((8, 8, 1), classes=3)
    assert APGD(epsilon=0.1, loss="dlr", steps=5)(model, images, labels).success.any()
    with pytest.raises(InputError, match="loss must be 'ce' for a model of 3 classes"):
        APGD(loss="dlr", target_classes=2)(model, images, labels)
    model, images, labels = problem((8, 8, 1), classes=2)
    with pytest.raises(InputError, match="loss must be 'ce' for a model of 2 classes"):
        APGD(loss="dlr")(model, images, labels)
    assert APGD(epsilon=0.3, steps=5)(model, images, labels).success.any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "cw"}, "loss must be one of ce, dlr; received 'cw'"),
        ({"steps": 0}, "steps must be an integer >= 1; received 0"),
        ({"target_classes": 9}, "target_classes must be 0 for loss 'ce'; received 9"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message):
        APGD(**settings)


@pytest.mark.parametrize(
    ("rises", "checked", "halved", "expected"),
    [
        (3, -9.0, True, 0.5),  # three quarters of the steps are too few
        (4, -9.0, True, 1.0),
        (4, 0.5, False, 0.5),  # the best is no better than at the last checkpoint
        (4, 0.4, False, 1.0),
        (4, 0.5, True, 1.0),  # halved last time
    ],
)
def test_a_step_is_halved_by_the_two_conditions_of_the_paper(rises, checked, halved, expected):
    """Equation 3 and conditions 1 and 2 of algorithm 1, where they just hold and just do not."""
    row = np.array([0.5], np.float32)
    points = np.full((1, 1, 1, 1), 0.5, np.float32)
    state = {
        "current": points, "previous": points, "best": points, "best_gradient": points,
        "best_loss": row, "last_loss": np.array([9.0], np.float32),
        "checked_loss": np.array([checked], np.float32), "halved": np.array([halved]),
        "rises": np.array([rises], np.float32), "step_size": np.array([1.0], np.float32),
    }  # fmt: skip
    batch = {"images": points, "labels": np.array([0]), "step": np.array([4])}
    settings = {"epsilon": np.float32(0.4), "periods": np.array([0, 0, 0, 0, 4], np.float32)}
    state, batch, settings = (
        {name: tf.constant(value) for name, value in part.items()}
        for part in (state, batch, settings)
    )

    def logits(images):  # the loss is below the best so far
        flat = tf.reshape(images, [-1, 1])
        return tf.concat([0.1 * flat + 1, 0 * flat], -1)

    _, _, after = AutoStep("inf", "ce", False)(logits, batch, state, settings)
    assert after["step_size"].numpy().tolist() == [expected]
    assert after["rises"].numpy().tolist() == [0]
