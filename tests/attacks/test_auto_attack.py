"""The ensemble: its members, their order, and that it is as strong as each."""

import dataclasses

import numpy as np
import pytest

from robustcls._validation import InputError
from robustcls.attacks import AutoAttack


def test_members_are_the_published_ones():
    members = AutoAttack(epsilon=0.1, norm="2", seed=7).members(10)
    assert [member.name for member in members] == ["apgd-ce", "apgd-dlr-t", "fab-t", "square"]
    assert all((m.epsilon, m.norm, m.seed) == (0.1, "2", 7) for m in members)
    settings = [dataclasses.asdict(member) for member in members]
    assert [s.get("steps") for s in settings] == [100, 100, 100, None]
    assert [s.get("target_classes") for s in settings] == [0, 9, 9, None]
    assert [s.get("restarts") for s in settings] == [1, 1, 1, None]
    assert settings[3]["queries"] == 5000
    assert [m.name for m in AutoAttack().members(3)][1] == "apgd-dlr"
    assert [m.name for m in AutoAttack().members(2)] == ["apgd-ce", "fab-t", "square"]


@pytest.mark.parametrize(
    ("norm", "epsilon"), [("inf", 0.02), pytest.param("2", 0.4, marks=pytest.mark.long)]
)
def test_every_member_s_successes_are_in_it(trained, norm, epsilon):
    model, images, labels = (trained[0], trained[1][:60], trained[2][:60])
    attack = AutoAttack(epsilon=epsilon, norm=norm, steps=8, target_classes=3, queries=60)
    whole = attack(model, images, labels)
    assert 0.1 < whole.robust_accuracy < 0.7
    for member in attack.members(10):
        alone = member(model, images, labels)
        assert (whole.success | ~alone.success).all()
    predicted = np.argmax(model.predict(whole.adversarial, verbose=0), -1)
    np.testing.assert_array_equal(whole.success, predicted != labels)


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_few_classes(problem, classes):
    model, images, labels = problem((8, 8, 1), count=8, classes=classes)
    result = AutoAttack(epsilon=0.1, steps=4, queries=5)(model, images, labels)
    assert result.success[:3].all()


def test_bad_input(problem):
    _, images, labels = problem((8, 8, 1))
    with pytest.raises(InputError, match="queries must be an integer >= 1; received 0"):
        AutoAttack(queries=0)
    with pytest.raises(InputError, match="for apgd-ce, which needs gradients"):
        AutoAttack()(lambda x: x[:, 0, :5, 0], images, labels)
