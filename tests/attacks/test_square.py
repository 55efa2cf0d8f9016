"""Square: black box, its schedule and shapes."""

import dataclasses
import types

import numpy as np
import pytest
import tensorflow as tf

from robustcls._validation import InputError
from robustcls.attacks import PGD, AutoAttack, Square
from robustcls.attacks.square import _pattern
from robustcls.attacks.task import Batch


def test_works_on_a_function_and_asks_no_more_than_it_may(problem):
    model, images, labels = problem((9, 7, 3), count=10, fresh=True)
    asked = np.zeros(10, int)

    def scores(batch):
        assert isinstance(batch, np.ndarray)
        assert batch.dtype == np.float32
        nearest = np.abs(batch[:, None] - images[None]).max((2, 3, 4)).argmin(1)
        np.add.at(asked, nearest, 1)
        batch_scores = model(batch, training=False).numpy()
        batch[:] = 0  # What a function does to its batch is its own affair.
        return batch_scores

    attack = Square(epsilon=0.03, queries=25)
    result = attack(scores, images, labels, batch_size=4)
    assert 3 <= result.success.sum() < 10
    # Besides the queries: one for the clean image, and two to get to know the model.
    assert (asked <= 25 + 3).all()
    assert (asked[~result.success] >= 25 + 1).all()
    by_keras = attack(model, images, labels, batch_size=4)
    np.testing.assert_array_equal(result.adversarial, by_keras.adversarial)


def test_needs_no_gradient(problem):
    """A model that rounds its images has none; Square finds what PGD cannot."""
    model, images, labels = problem((8, 8, 1), count=60, fresh=True)

    def scores(batch):
        return model(np.round(batch * 16) / 16, training=False).numpy()

    result = Square(epsilon=0.08, queries=150)(scores, images, labels)
    clean = np.argmax(scores(images), -1) == labels
    assert (result.success & clean).sum() > 5
    with pytest.raises(InputError, match=r"needs gradients.*Did you mean Square"):
        PGD(epsilon=0.08)(scores, images, labels)


def test_probabilities_serve_as_well_as_logits(problem):
    model, images, labels = problem((8, 8, 1), fresh=True)
    attack = Square(epsilon=0.05, queries=40)
    by_logits = attack(lambda x: 9 * model(x).numpy(), images, labels)
    by_probabilities = attack(lambda x: tf.nn.softmax(9 * model(x)).numpy(), images, labels)
    np.testing.assert_array_equal(by_logits.success, by_probabilities.success)
    np.testing.assert_allclose(by_logits.adversarial, by_probabilities.adversarial, atol=1e-6)


def test_more_queries_break_more(trained):
    model, images, labels = trained
    few, many = (
        Square(epsilon=0.03, queries=queries)(model, images, labels).robust_accuracy
        for queries in (1, 150)
    )
    white_box = PGD(epsilon=0.03, steps=20)(model, images, labels).robust_accuracy
    assert few - many > 0.04
    assert many >= white_box


def test_sides_shrink_on_the_published_schedule():
    attack = Square(queries=10_000)
    steps = np.array([0, 10, 11, 51, 201, 501, 1001, 2001, 4001, 6001, 8001, 9999])
    shares = np.array([1, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 512])
    expected = np.maximum(np.rint(np.sqrt(0.8 / shares * 32 * 32)), 1)
    np.testing.assert_array_equal(attack._sides(steps, 32, 32), expected)
    short = Square(queries=1000)
    np.testing.assert_array_equal(short._sides((steps + 9) // 10, 32, 32)[[3, 5]], expected[[3, 5]])
    # Within AutoAttack 5,000 queries leave the squares half way, as in the authors' code.
    unrescaled = Square(queries=5000, rescale=False)
    np.testing.assert_array_equal(unrescaled._sides(steps, 32, 32), expected)
    assert [m.rescale for m in AutoAttack().members(10) if isinstance(m, Square)] == [False]
    # Squares of norm "2" have a middle, and none is larger than the image.
    odd = Square(norm="2", queries=10_000)._sides(steps, 32, 32)
    assert (odd % 2 == 1).all()
    assert odd.min() == 3
    assert Square(norm="2")._sides(np.array([0]), 2, 9).item() == 2


def test_every_pixel_of_the_start_lies_on_the_boundary(problem):
    model, images, labels = problem((8, 8, 1), fresh=True)
    images = np.clip(images, 0.3, 0.7)
    labels = np.argmax(model.predict(images, verbose=0), -1)
    offsets = Square(epsilon=0.01, queries=1)(model, images, labels).adversarial - images
    moved = offsets[np.abs(offsets).max((1, 2, 3)) > 0]
    assert len(moved) > 10
    np.testing.assert_allclose(np.abs(moved), 0.01, atol=1e-6)
    np.testing.assert_allclose(moved, np.broadcast_to(moved[:, :1], moved.shape), atol=1e-6)


@pytest.mark.parametrize("side", [1, 2, 3, 4, 7, 12])
def test_bumps_have_norm_one_and_a_hill_over_a_valley(side):
    pattern = _pattern(side, "2")
    assert pattern.shape == (side, side)
    assert np.linalg.norm(pattern) == pytest.approx(1, abs=1e-5)
    if side > 1:
        assert (pattern[: side // 2] > 0).all()
    assert (pattern[side // 2 :] < 0).all()


def test_a_worse_point_is_never_gone_on_from():
    """Algorithm 1: what does not raise the margin is dropped."""
    margins = iter([0.1, 0.3, 0.2, 0.3])
    classifier = types.SimpleNamespace(
        predict=lambda points: np.array([[0.0, next(margins)]], np.float32)
    )
    images = np.full((1, 8, 8, 3), 0.5, np.float32)
    one = np.array([0])
    attack = Square(epsilon=0.1, queries=4)
    step = attack.make_step(classifier)
    batch = Batch(images, one, one, np.array([7], np.uint64), one, one)
    state = attack.start(batch)
    kept = []
    for number in range(4):
        batch = dataclasses.replace(batch, step=np.array([number]))
        asked = state["current"]
        _, _, state = step(batch, state)
        kept.append((state["best"] == asked).all())
    # The third is worse, and the fourth only as good.
    assert kept == [True, True, False, False]
    assert state["best_margin"] == np.float32(0.3)
