"""Attacks that were stopped go on, to the same result."""

import numpy as np
import pytest

from robustcls._validation import InputError
from robustcls.attacks import APGD, FAB, PGD, AutoAttack, Square, checkpoint, loop

ATTACKS = [
    PGD(epsilon=0.04, steps=4, restarts=3),
    APGD(epsilon=0.04, loss="dlr", target_classes=2, steps=5),
    FAB(epsilon=0.04, steps=5),
    Square(epsilon=0.04, queries=25),
    AutoAttack(epsilon=0.04, steps=3, queries=8),
]


class StopError(Exception):
    """Stands for a kill."""


@pytest.fixture
def stopping(monkeypatch):
    """A function that stops the loop after so many steps, saving before each."""
    monkeypatch.setattr(checkpoint, "SAVE_SECONDS", 0)
    advance = loop.Loop._advance

    def stop_after(steps):
        left = [steps]

        def limited(self):
            if not left[0]:
                raise StopError
            left[0] -= 1
            advance(self)

        monkeypatch.setattr(loop.Loop, "_advance", limited)
        return left

    return stop_after


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_a_stopped_attack_goes_on_to_the_same_result(attack, problem, stopping, tmp_path):
    model, images, labels = problem((8, 8, 1), fresh=True)
    left = stopping(10**6)
    expected = attack(model, images, labels, batch_size=8)
    total = 10**6 - left[0]
    assert total > 12
    for stop in (1, total // 2, total - 1):
        folder = tmp_path / str(stop)
        stopping(stop)
        with pytest.raises(StopError):
            attack(model, images, labels, batch_size=8, checkpoint=folder)
        left = stopping(10**6)
        result = attack(model, images, labels, batch_size=8, checkpoint=folder)
        np.testing.assert_array_equal(result.success, expected.success)
        np.testing.assert_array_equal(result.adversarial, expected.adversarial)
        assert 10**6 - left[0] == total - stop  # Nothing is done twice.
        assert not list(folder.glob(".writing*"))


def test_goes_on_with_another_batch_size(problem, stopping, tmp_path):
    model, images, labels = problem((8, 8, 1), fresh=True)
    attack = Square(epsilon=0.04, queries=25)
    expected = attack(model, images, labels)
    stopping(9)
    with pytest.raises(StopError):
        attack(model, images, labels, batch_size=20, checkpoint=tmp_path)
    stopping(10**6)
    result = attack(model, images, labels, batch_size=3, checkpoint=tmp_path)
    np.testing.assert_array_equal(result.success, expected.success)
    np.testing.assert_allclose(result.adversarial, expected.adversarial, atol=1e-6)


def test_radii_attacks_and_images_share_a_folder(problem, stopping, tmp_path):
    model, images, labels = problem((8, 8, 1), fresh=True)
    attack = PGD(epsilon=0.04, steps=3)
    attack.over(model, images, labels, epsilons=[0.02, 0.04], checkpoint=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    expected = attack(model, images, labels, checkpoint=tmp_path)
    attack(model, images[1:], labels[1:], checkpoint=tmp_path)
    PGD(epsilon=0.04, steps=4)(model, images, labels, checkpoint=tmp_path)
    assert len(list(tmp_path.iterdir())) == 5
    # What is complete takes no further step.
    stopping(0)
    again = attack(model, images, labels, checkpoint=tmp_path)
    np.testing.assert_array_equal(again.success, expected.success)
    np.testing.assert_array_equal(again.adversarial, expected.adversarial)


def test_a_model_that_fails_leaves_what_it_did(problem, tmp_path):
    """Without waiting for the next save."""
    model, images, labels = problem((8, 8, 1), fresh=True)
    attack = Square(epsilon=0.04, queries=25)
    queries = []

    def scores(batch):
        queries.append(len(batch))
        if sum(queries) > 400 and limited:
            raise ConnectionError("quota")
        return model(batch, training=False).numpy()

    limited = False
    expected = attack(scores, images, labels, batch_size=8)
    total, queries[:] = sum(queries), []
    limited = True
    with pytest.raises(InputError, match="quota"):
        attack(scores, images, labels, batch_size=8, checkpoint=tmp_path)
    (path,) = tmp_path.iterdir()
    assert path.name.startswith("square-")
    queries[:], limited = [], False
    result = attack(scores, images, labels, batch_size=8, checkpoint=tmp_path)
    np.testing.assert_array_equal(result.adversarial, expected.adversarial)
    # To get to know the model takes 16 images, the clean accuracy another 37.
    assert sum(queries) < total - 400 + 2 * 53 + 8


def test_another_model_or_a_damaged_file_is_refused(problem, tmp_path):
    model, images, labels = problem((8, 8, 1), fresh=True)
    attack = PGD(epsilon=0.04, steps=3)
    attack(model, images, labels, checkpoint=tmp_path)
    wrong = labels != np.argmax(model.predict(images, verbose=0), -1)
    model.layers[-1].bias.assign_add([0.01, 0, 0, 0, 0])
    assert (wrong == (labels != np.argmax(model.predict(images, verbose=0), -1))).all()
    with pytest.raises(InputError, match="checkpoint must be of the same model"):
        attack(model, images, labels, checkpoint=tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"checkpoint must .* is damaged. Delete it"):
        attack(model, images, labels, checkpoint=tmp_path)
