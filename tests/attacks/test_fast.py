"""The fast suite: nearly AutoAttack's verdict, for few passes, image by image."""

import numpy as np
import pytest
import tensorflow as tf

from robustcls.attacks import APGD, AutoAttack, Fast
from robustcls.attacks.suites.search import Search
from robustcls.attacks.task import Options, Task
from robustcls.classifiers.classifier import Classifier

EPSILON = 0.02


@pytest.fixture(scope="module")
def both(trained):
    model, images, labels = trained
    attacks = Fast(epsilon=EPSILON), AutoAttack(epsilon=EPSILON, queries=300)
    return [attack(model, images[:48], labels[:48]) for attack in attacks]


@pytest.mark.long
def test_no_more_stands_than_after_autoattack(both):
    fast, full = both
    assert 0.2 < full.robust_accuracy < 0.8
    assert fast.robust_accuracy <= full.robust_accuracy + 1e-9
    assert fast.passes.sum() < full.passes.sum() / 10
    assert (fast.passes > 0).all()


@pytest.mark.long
def test_an_image_is_judged_by_its_own_runs(both, trained):
    model, images, labels = trained
    some = np.array([40, 3, 17, 30, 8, 21])
    result = Fast(epsilon=EPSILON)(model, images[some], labels[some], batch_size=4)
    np.testing.assert_array_equal(result.success, both[0].success[some])
    assert np.abs(result.passes - both[0].passes[some]).max() <= 60


def test_square_finds_what_masked_gradients_hide():
    """A model without slope: the brighter half of the image decides."""

    @tf.custom_gradient
    def flat(points):
        lead = tf.reduce_mean(points[:, :4] - points[:, 4:], [1, 2, 3])
        return tf.stack([lead, -lead], 1), lambda upstream: tf.zeros_like(points)

    model = Classifier(flat, name="flat", differentiable=True, range_is_known=True)
    images = np.full((8, 8, 8, 1), 0.5, np.float32)
    images[:, :4] += np.linspace(0.01, 0.15, 8, dtype=np.float32)[:, None, None, None]
    labels = np.zeros(8, np.int64)
    assert APGD(epsilon=0.05)(model, images, labels).robust_accuracy > 0.8
    assert Fast(epsilon=0.05)(model, images, labels).robust_accuracy < 0.5


def test_statistics_leave_out_what_is_far_from_falling():
    model = Classifier(
        lambda points: tf.reshape(points, [-1, 1]) * [[0.0, 0.1]] + [[1.0, 0.0]],
        name="model",
        differentiable=True,
    )
    images = np.arange(5, dtype=np.float32).reshape(5, 1, 1, 1) / 5
    labels = np.zeros(5, np.int64)
    task = Task(model, images, labels, targeted=False, rivals=1, batch_size=5)
    search = Search(model, task, Options(5, False, True, None))
    search.clean[:] = -1
    search.flat[:] = False
    # Far and settled; near; far, but the runs differ by more; hardly moved; fallen.
    ends = [[-0.5, -0.1, -0.3, -0.98, 0.1], [-0.5, -0.1, -0.9, -0.98, 0.1]]
    search.ends = [np.array(row, np.float32) for row in ends]
    task.success[4] = True
    search.doubtful &= ~task.success
    search.discard()
    assert search.doubtful.tolist() == [False, True, True, True, False]


@pytest.mark.long
def test_a_stopped_suite_goes_on(problem, tmp_path, stopped_at):
    model, images, labels = problem((8, 8, 1), count=16)
    whole = Fast(epsilon=0.03)(model, images, labels)
    with stopped_at(45):
        Fast(epsilon=0.03)(model, images, labels, checkpoint=tmp_path)
    again = Fast(epsilon=0.03)(model, images, labels, checkpoint=tmp_path)
    np.testing.assert_array_equal(again.success, whole.success)
    np.testing.assert_array_equal(again.passes, whole.passes)
