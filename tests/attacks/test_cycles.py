"""Runs that come back to where they were end there, and nothing is missed."""

import numpy as np
import pytest
import tensorflow as tf

from robustcls.attacks import FAB, PGD, loop
from robustcls.classifiers.classifier import Classifier

SHAPE = (3, 3, 1)
IMAGES = np.random.default_rng(2).uniform(0.2, 0.8, (40, *SHAPE)).astype(np.float32)
WEIGHTS = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)
HEAD = np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32)


def logits(images):
    return tf.sin(4 * tf.reshape(images, [-1, 9]) @ WEIGHTS) @ HEAD


@pytest.fixture(scope="module")
def model():
    return Classifier(logits, name="waves", differentiable=True)


@pytest.fixture
def steps(monkeypatch):
    """How many images went through a step, one entry for each batch."""
    taken = []
    advance = loop.Loop._take_step

    def count(self):
        taken.append(len(self.active))
        advance(self)

    monkeypatch.setattr(loop.Loop, "_take_step", count)
    return taken


@pytest.mark.parametrize(
    "attack",
    [
        PGD(epsilon=0.02, step_size=0.005, steps=60, restarts=2),
        PGD(epsilon=0.02, step_size=0.005, steps=60, random_start=False),
        PGD(epsilon=0.05, steps=40, norm="2"),
        FAB(epsilon=0.01, steps=15, target_classes=1),
    ],
    ids=str,
)
def test_the_long_run_finds_the_same_bits(attack, model, steps, monkeypatch):
    """One image a batch, as sums may round otherwise in another company."""
    images, labels = IMAGES[:12], logits(IMAGES[:12]).numpy().argmax(1)
    short = attack(model, images, labels, batch_size=1)
    taken = sum(steps)
    steps.clear()
    monkeypatch.setattr(type(attack), "repeats", False)
    long = attack(model, images, labels, batch_size=1)
    np.testing.assert_array_equal(short.success, long.success)
    np.testing.assert_array_equal(short.adversarial, long.adversarial)
    assert (~long.success).sum() > 0
    saved = 1 - taken / sum(steps)
    assert saved >= (0.25 if isinstance(attack, PGD) and attack.norm == "inf" else 0)


def test_a_cycle_is_found_within_a_quarter_of_its_beginning(model, steps):
    """A point that jumps to and fro from step 60 on."""

    class Walk(PGD, abstract=True):
        def make_step(self, classifier):
            def step(batch, state):
                at = batch.step[:, None, None, None]
                where = np.where(at < 60, 0.001 * (at + 1), 0.1 + 0.01 * (at % 3))
                points = np.broadcast_to(where, batch.images.shape).astype(np.float32)
                outputs = classifier.predict(batch.images)
                return state["current"], outputs, {"current": points}

            return step

    labels = logits(IMAGES).numpy().argmax(1)
    Walk(epsilon=1, steps=1000)(model, IMAGES[:1], labels[:1])
    assert 60 < sum(steps) <= 60 * 1.25 + 2 * 3


def test_spared_steps_are_in_the_bar(model, capsys):
    labels = logits(IMAGES).numpy().argmax(1)
    PGD(epsilon=0.02, steps=200)(model, IMAGES, labels, progress=True)
    assert "spared=" in capsys.readouterr().err


def test_a_stopped_run_finds_its_cycles_again(model, tmp_path, stopped_at):
    labels = logits(IMAGES).numpy().argmax(1)
    attack = PGD(epsilon=0.02, steps=200)
    whole = attack(model, IMAGES, labels, batch_size=16)
    with stopped_at(30):
        attack(model, IMAGES, labels, batch_size=16, checkpoint=tmp_path)
    for active_set in (True, False):
        again = attack(
            model, IMAGES, labels, batch_size=16, checkpoint=tmp_path, active_set=active_set
        )
        np.testing.assert_array_equal(again.success, whole.success)
        np.testing.assert_allclose(again.adversarial, whole.adversarial, atol=1e-6)
