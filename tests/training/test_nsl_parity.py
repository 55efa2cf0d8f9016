"""The trainer against the real NSL wrapper on the same weights and batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from robustcls.training.adversarial import AdversarialRegularization

# `test_nsl_cases.py` has the cases that can be computed by hand.
pytestmark = pytest.mark.long
CASES = [
    {"adv_grad_norm": "infinity", "adv_step_size": 0.1, "multiplier": 0.2},
    {"adv_grad_norm": "l2", "adv_step_size": 0.8, "multiplier": 0.7},
    {
        "adv_grad_norm": "infinity",
        "adv_step_size": 0.05,
        "multiplier": 1.0,
        "pgd_iterations": 3,
        "pgd_epsilon": 0.08,
    },
    {
        "adv_grad_norm": "l2",
        "adv_step_size": 0.5,
        "multiplier": 0.5,
        "pgd_iterations": 3,
        "pgd_epsilon": 0.9,
    },
    {"adv_grad_norm": "l1", "adv_step_size": 0.5, "multiplier": 0.5},
    {
        "adv_grad_norm": "infinity",
        "adv_step_size": 0.2,
        "multiplier": 0.2,
        "clip_value_min": 0.0,
        "clip_value_max": 1.0,
    },
]


def build() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((8, 8, 2), name="feature"),
            keras.layers.Conv2D(6, 3, activation="tanh"),
            keras.layers.BatchNormalization(),
            keras.layers.Conv2D(5, 3, strides=2, activation="tanh"),
            keras.layers.Flatten(),
            keras.layers.Dense(4),
        ]
    )


@pytest.fixture(scope="module")
def problem(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nsl")
    generator = np.random.default_rng(7)
    images = generator.uniform(size=(16, 8, 8, 2)).astype(np.float32)
    labels = generator.integers(0, 4, 16)
    weights = [
        generator.normal(0, 0.3, np.shape(weight)).astype(np.float32)
        for weight in build().get_weights()
    ]
    weights[5] = np.abs(weights[5]) + 0.5  # the moving variance
    arrays = {f"w{index}": weight for index, weight in enumerate(weights)}
    np.savez(
        folder / "cases.npz",
        cases=np.array(json.dumps(CASES)),
        images=images,
        labels=labels,
        count=len(weights),
        **arrays,
    )
    subprocess.run(
        [
            sys.executable,
            str(Path(__file__).with_name("nsl_reference.py")),
            str(folder / "cases.npz"),
            str(folder / "out.npz"),
        ],
        check=True,
        env={**os.environ, "TF_USE_LEGACY_KERAS": "1"},
    )
    with np.load(folder / "out.npz") as reference:
        return images, labels, weights, dict(reference)


@pytest.mark.parametrize("number", range(len(CASES)))
def test_loss_gradients_and_statistics_equal_nsl(problem, number):
    images, labels, weights, reference = problem
    case = CASES[number]
    base = build()
    base.set_weights(weights)
    model = AdversarialRegularization(
        base,
        multiplier=case["multiplier"],
        step_size=case["adv_step_size"],
        grad_norm=case["adv_grad_norm"],
        iterations=case.get("pgd_iterations", 1),
        epsilon=case.get("pgd_epsilon"),
        clip="clip_value_min" in case,
    )
    # With plain SGD at rate 1 the step is the gradient.
    model.compile(keras.optimizers.SGD(1.0))
    before = [keras.ops.convert_to_numpy(variable) for variable in base.trainable_variables]
    logs = model.train_on_batch(images, labels, return_dict=True)
    gradients = [
        old - keras.ops.convert_to_numpy(new)
        for old, new in zip(before, base.trainable_variables, strict=True)
    ]

    assert logs["clean_loss"] == pytest.approx(float(reference[f"{number}_clean"]), abs=1e-5)
    assert logs["adversarial_loss"] == pytest.approx(
        float(reference[f"{number}_adversarial"]), abs=1e-5
    )
    assert logs["adversarial_loss"] > logs["clean_loss"]
    assert logs["loss"] == pytest.approx(
        logs["clean_loss"] + case["multiplier"] * logs["adversarial_loss"], abs=1e-5
    )
    for index, gradient in enumerate(gradients):
        np.testing.assert_allclose(gradient, reference[f"{number}_g{index}"], atol=1e-5)
    for index, statistic in enumerate(base.non_trainable_variables):
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(statistic), reference[f"{number}_s{index}"], atol=1e-5
        )


@pytest.mark.parametrize("source", ["dataset", "distributed"])
def test_two_replicas_train_as_one_on_dictionaries(problem, source):
    reference = problem[-1]
    np.testing.assert_allclose(
        reference[f"{source}_weights"], reference["one_weights"], rtol=1e-5, atol=1e-6
    )
    assert float(reference[f"{source}_loss"]) == pytest.approx(
        float(reference["one_loss"]), rel=1e-5
    )
