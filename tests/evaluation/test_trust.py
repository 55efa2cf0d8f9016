"""Every check passes an honest model and catches the kind of model it is there for."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from robustcls import InputError
from robustcls.evaluation.trust import assessment as trust
from robustcls.evaluation.trust.checked_model import CheckedModel
from robustcls.evaluation.trust.checks import judge
from robustcls.evaluation.trust.measurements import EvidenceCollector

layers = keras.layers


def with_status(checks, status):
    return {check.number for check in checks if check.status == status}


def in_front_of(model, *added):
    return keras.Sequential([keras.Input(model.input_shape[1:]), *added, model])


def behind(model, *added):
    return keras.Sequential([keras.Input(model.input_shape[1:]), model, *added])


@keras.saving.register_keras_serializable("tests")
class Quantizer(layers.Layer):
    def call(self, images):
        return tf.round(4 * images) / 4


class NoiseAtInference(layers.Layer):
    def call(self, images):
        return tf.nn.dropout(images, 0.3)


@tf.custom_gradient
def with_broken_gradient(images):
    return tf.identity(images), lambda upstream: upstream * np.nan


class BrokenGradient(layers.Layer):
    def call(self, images):
        return with_broken_gradient(images)


@pytest.fixture(scope="module")
def evidence(honest, few):
    collector = EvidenceCollector(
        honest,
        *few,
        epsilon=0.1,
        norm="inf",
        attack="apgd",
        steps=20,
        queries=200,
        reference_models={},
        seed=0,
        batch_size=128,
    )
    return collector.run(progress=False)


def test_an_honest_model_passes_all(evidence):
    checks = judge(evidence)
    assert [check.number for check in checks] == list(range(1, 16))
    assert all(check.passed for check in checks), trust.summary(checks)
    assert trust.summary(checks) == "15 of 15 checks passed"
    assert trust.believable(checks)


def test_catastrophic_overfitting_fails_4_and_5(overfitted, few):
    checks = trust.check(overfitted, *few, epsilon=0.3, queries=20)
    assert with_status(checks, "fail") == {4, 5}
    assert not trust.believable(checks)
    assert "one step is blind" in checks[3].evidence


def test_a_saturated_softmax_fails_1_and_3(honest, few):
    model = behind(honest, layers.Rescaling(300.0), layers.Softmax())
    checks = trust.check(model, *few, epsilon=0.1, queries=20)
    assert with_status(checks, "fail") == {1, 3}
    assert "own softmax" in checks[2].evidence


def test_a_quantizer_fails_10(honest, few):
    images, labels = (part[:100] for part in few)
    model = in_front_of(honest, Quantizer())
    checks = trust.check(model, images, labels, epsilon=0.1, queries=100)
    assert {3, 7, 10, 12} <= with_status(checks, "fail")


def test_noise_at_inference_fails_2_and_13(honest, few):
    images, labels = (part[:60] for part in few)
    checks = trust.check(in_front_of(honest, NoiseAtInference()), images, labels, queries=5)
    assert {2, 13} <= with_status(checks, "fail")


def test_a_gradient_that_is_not_a_number_fails_3(honest, few):
    images, labels = (part[:20] for part in few)
    checks = trust.check(in_front_of(honest, BrokenGradient()), images, labels, steps=2, queries=2)
    assert 3 in with_status(checks, "fail")
    assert "NaN or infinite for 100.0 %" in checks[2].evidence


def all_but(right, count):
    """The same images right, but for the first few of them."""
    changed = right.copy()
    changed[np.flatnonzero(right)[:count]] = False
    return changed


# Each changes what was measured of the honest model so that one check alone fails.
SPOILED = {
    1: lambda e: {"returns_probabilities": True},
    2: lambda e: {"spread": 2e-4},
    3: lambda e: {"zero": 0.02},
    4: lambda e: {"fgsm": all_but(e.pgd, 10)},
    5: lambda e: {"fgsm": np.ones_like(e.fgsm), "clean": all_but(np.ones_like(e.clean), 1)},
    6: lambda e: {"over_epsilon": ((0.0, 0.9), (0.1, 0.3), (0.2, 0.31))},
    7: lambda e: {"large_accuracy": 0.11},
    8: lambda e: {"doubled": all_but(e.doubled, 5)},
    9: lambda e: {"restarted": all_but(e.restarted, 5)},
    10: lambda e: {"square": all_but(e.white_box, 1)},
    11: lambda e: {"transferred": all_but(e.pgd, 3)},
    12: lambda e: {"drawn": all_but(e.pgd, 1)},
    13: lambda e: {"silent": 1},
    14: lambda e: {"alignment": 0.29},
    15: lambda e: {"outside": 1},
}


@pytest.mark.parametrize("number", SPOILED)
def test_each_check_fails_alone(evidence, number):
    checks = judge(dataclasses.replace(evidence, **SPOILED[number](evidence)))
    failed = {check.number for check in checks if not check.passed}
    assert failed == ({4, 5} if number == 5 else {number})
    assert with_status(checks, "warning") == ({14} if number == 14 else set())


def test_a_difference_of_exactly_a_point_is_none(evidence):
    changed = dataclasses.replace(evidence, restarted=all_but(evidence.apgd, 2))
    assert judge(changed)[8].passed
    changed = dataclasses.replace(evidence, restarted=all_but(evidence.apgd, 3))
    assert not judge(changed)[8].passed


def test_what_pgd_misses_does_not_count_against_apgd(evidence):
    """PGD at the first start is too weak here; APGD is not, and says so for AutoAttack."""
    left = evidence.white_box
    weak = dataclasses.replace(
        evidence, attack="pgd", pgd=evidence.clean, apgd=left, doubled=all_but(left, 2)
    )
    checks = judge(weak)
    assert not checks[7].passed
    assert not checks[8].passed
    checks = judge(dataclasses.replace(weak, attack="apgd", restarted=left))
    assert checks[7].passed
    assert checks[8].passed
    assert "after APGD, with PGD of 40 steps" in checks[7].evidence
    more = all_but(left, 3)
    checks = judge(dataclasses.replace(weak, attack="apgd", doubled=more, restarted=more))
    assert not checks[7].passed
    assert not checks[8].passed


def test_a_model_that_is_always_wrong_is_not_attacked(honest, few):
    images = few[0][:30]
    wrong = (honest.predict(images, verbose=0).argmax(-1) + 1) % 10
    settings = {"queries": 2, "steps": 1}
    checks = trust.check(honest, images, wrong, **settings)
    assert with_status(checks, "skipped") == set(range(4, 14))
    assert not with_status(checks, "fail")
    assert not trust.believable(checks)
    assert checks == trust.check(honest, images, wrong, **settings)


def test_norm_two_and_another_model_as_reference(honest, overfitted, few):
    images, labels = (part[:50] for part in few)
    settings = {"epsilon": 0.5, "norm": "2", "attack": "apgd", "queries": 5, "steps": 10}
    settings["reference_models"] = {"another": overfitted}
    checks = trust.check(honest, images, labels, **settings)
    assert "examples made on another" in checks[10].evidence
    assert "after APGD, with PGD of 20 steps" in checks[7].evidence
    assert {10, 11, 12, 13, 15} <= with_status(checks, "pass")


def test_a_model_trained_on_is_judged_by_its_present_weights(few):
    """Batch normalization is folded into a copy, which must not stay behind."""
    images, labels = (part[:20] for part in few)
    model = keras.Sequential(
        [
            keras.Input(images.shape[1:]),
            layers.Conv2D(4, 3, strides=2),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    CheckedModel(model, images, batch_size=8).gradient(images, labels)
    model.set_weights([weights + 0.3 for weights in model.get_weights()])
    subject = CheckedModel(model, images, batch_size=8)
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(subject.predict(images), expected, rtol=1e-4)


def test_bad_input(honest, few):
    images, labels = few
    cases = [
        ({"epsilon": 0}, r"epsilon must be in \(0, 1\]"),
        ({"epsilon": 8}, "Did you mean 8/255"),
        ({"norm": "l2"}, "norm must be one of 2, inf"),
        ({"attack": "fgsm"}, "attack must be one of apgd, pgd; received 'fgsm'"),
        ({"steps": 0}, "steps must be an integer >= 1; received 0"),
        ({"num_images": 0}, "num_images must be an integer >= 1"),
    ]
    for settings, message in cases:
        with pytest.raises(InputError, match=message):
            trust.check(honest, images, labels, **settings)
    with pytest.raises(InputError, match="Did you mean images"):
        trust.check(honest, (255 * images).astype(np.uint8), labels)
    with pytest.raises(InputError, match="must name one class an image"):
        trust.check(honest, images, 1 - np.eye(10)[labels])
    with pytest.raises(InputError, match="labels must be in"):
        trust.check(honest, images, labels + 5)
    with pytest.raises(InputError, match="whose gradients can be judged"):
        trust.check(lambda images: np.zeros((len(images), 10), np.float32), images, labels)
