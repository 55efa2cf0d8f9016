"""Models that answer at random: expectation over transformation."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import robustcls as rc
from robustcls import InputError
from robustcls.attacks import APGD, DDN, FGSM, FMN, PGD, AutoAttack
from robustcls.attacks.gradient import value_and_gradient
from robustcls.attacks.task import Task
from robustcls.classifiers.classifier import Classifier
from robustcls.evaluation.runs.config import EvaluationConfig
from robustcls.evaluation.runs.plan import attacks_of


class Noise(keras.layers.Layer):
    """Noise on what comes in, as a defence draws it."""

    def __init__(self, stddev):
        super().__init__()
        self.stddev = stddev
        self.draws = keras.random.SeedGenerator(0)

    def call(self, inputs):
        return inputs + keras.random.normal(tf.shape(inputs), 0, self.stddev, seed=self.draws)


@pytest.fixture(scope="module")
def noisy(problem):
    """A model behind noise, its images and the labels of the model without."""
    model, images, _ = problem((8, 8, 1))
    inputs = keras.Input((8, 8, 1))
    labels = np.argmax(model.predict(images, verbose=0), -1)
    return keras.Model(inputs, model(Noise(0.05)(inputs))), images, labels


def test_a_step_takes_the_mean_of_all_answers():
    count = tf.Variable(0.0)

    def function(points):
        factor = count.assign_add(1.0)
        outputs = factor * tf.reshape(points, [-1, 4])
        return tf.reduce_sum(outputs**2, 1), outputs

    points = tf.constant(np.arange(8.0, dtype=np.float32).reshape(2, 2, 2, 1))
    value, outputs, gradient = tf.function(lambda x: value_and_gradient(function, x, 5))(points)
    assert count == 5
    squares = np.mean(np.arange(1.0, 6) ** 2)
    flat = points.numpy().reshape(2, 4)
    np.testing.assert_allclose(value, squares * (flat**2).sum(1), rtol=1e-6)
    np.testing.assert_allclose(outputs, 3 * flat, rtol=1e-6)
    np.testing.assert_allclose(gradient, 2 * squares * points, rtol=1e-6)


@pytest.mark.parametrize(
    "attack",
    [PGD(epsilon=0.1, steps=4, samples=5), AutoAttack(epsilon=0.1, steps=4, version="rand")],
    ids=("pgd", "autoattack"),
)
def test_attacks_on_a_model_behind_noise(attack, noisy):
    model, images, labels = noisy
    result = attack(model, images, labels)
    assert result.success.sum() > 5
    assert np.abs(result.adversarial - images).max() <= 0.1 + 1e-6
    # What has fallen is wrong for the mean of other answers, too; a few may be close calls.
    mean = np.mean([model(result.adversarial).numpy() for _ in range(20)], 0)
    assert ((mean.argmax(1) != labels) == result.success).mean() > 0.9


def test_version_rand_is_apgd_on_both_losses():
    attack = AutoAttack(version="rand", steps=7, seed=2, epsilon=0.1)
    own = {"steps": 7, "samples": 20, "seed": 2, "epsilon": 0.1}
    assert attack.members(10) == [APGD(loss="ce", **own), APGD(loss="dlr", **own)]
    assert attack.members(2) == [APGD(loss="ce", **own)]


def test_the_command_lines_settings_reach_the_attacks():
    config = EvaluationConfig(attack=("autoattack", "pgd"), version="rand", samples=5, norm="1")
    with pytest.raises(InputError, match="norm must be one of 2, inf for pgd"):
        attacks_of(config)
    config = EvaluationConfig(attack="autoattack", version="rand", samples=5, norm="1")
    assert attacks_of(config) == [
        AutoAttack(epsilon=8 / 255, norm="1", version="rand", samples=5, queries=5000)
    ]
    plain = EvaluationConfig(attack=("autoattack", "pgd"))
    assert attacks_of(plain) == [AutoAttack(epsilon=8 / 255), PGD(epsilon=8 / 255)]


def test_evaluate_averages_every_answer(noisy):
    model, images, labels = noisy
    attack = AutoAttack(version="rand", steps=2, samples=4, epsilon=0.05)
    found = rc.evaluate(model, (images, labels), attacks=[attack], corruptions=None)
    assert found["autoattack"].accuracy < found["clean"].accuracy


def test_what_stands_when_it_is_asked_again():
    """The third of three images is turned by chance alone."""
    images = np.linspace(0, 1, 3, dtype=np.float32).reshape(3, 1, 1, 1)
    model = Classifier(
        lambda x: np.where(x[:, 0, 0] > 0.7, [[1.0, 0]], [[0.0, 1]]).astype(np.float32),
        name="model",
        differentiable=False,
    )
    labels = np.zeros(3, np.int64)
    task = Task(model, images, labels, targeted=False, rivals=0, batch_size=2)
    assert task.success.tolist() == [True, True, False]
    task.success[2] = task.touched[1] = task.touched[2] = True
    task.ask_again(model, 1)
    assert task.success.tolist() == [True, True, False]
    assert task.margin[2] == -1


def test_a_stopped_attack_on_a_random_model_goes_on(noisy, tmp_path):
    model, images, labels = noisy
    attack = PGD(epsilon=0.1, steps=2, samples=2)
    first = attack(model, images, labels, checkpoint=tmp_path)
    again = attack(model, images, labels, checkpoint=tmp_path)
    np.testing.assert_array_equal(
        first.adversarial[first.success], again.adversarial[first.success]
    )


@pytest.mark.parametrize("attack", [FGSM(), PGD(), AutoAttack()], ids=str)
def test_others_refuse_a_random_model(attack, noisy):
    model, images, labels = noisy
    with pytest.raises(InputError, match=r"same logits each time.*AutoAttack\(version='rand'\)"):
        attack(model, images, labels)


@pytest.mark.parametrize(
    "attack", [PGD(samples=3), APGD(samples=3), AutoAttack(version="rand", samples=3)], ids=str
)
def test_samples_of_a_deterministic_model(attack, problem):
    with pytest.raises(InputError, match=r"samples must be 1, and .* received 3") as error:
        attack(*problem((8, 8, 1)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (PGD, {"steps": 0}, "steps must be"),
        (PGD, {"restarts": 0}, "restarts must be"),
        (PGD, {"samples": 0}, "samples must be"),
        (PGD, {"epsilon": 0}, "epsilon must be"),
        (APGD, {"steps": 0}, "steps must be"),
        (PGD, {"norm": "1"}, "norm must be one of 2, inf for pgd; received '1', which apgd, fab"),
        (APGD, {"norm": "0"}, "norm must be one of 1, 2, inf for apgd; .* which fmn know"),
        (FMN, {"norm": "3"}, "norm must be one of 0, 1, 2, inf; received '3'"),
        (DDN, {"norm": "inf"}, "norm must be one of 2 for ddn; received 'inf'"),
        (AutoAttack, {"queries": 0}, "queries must be"),
        (AutoAttack, {"norm": "0"}, "norm must be one of 1, 2, inf for autoattack"),
        (AutoAttack, {"samples": 1}, "samples must be"),
        (AutoAttack, {"version": "random"}, "version must be one of rand, standard"),
    ],
)
def test_no_budget_and_no_such_norm(kind, settings, message):
    with pytest.raises(InputError, match=message) as error:
        kind(**settings)
    assert "\n" not in str(error.value)
