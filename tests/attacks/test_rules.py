"""Steps of APGD, FAB and Square against the published algorithms, written out for one image."""

import numpy as np
import pytest
import tensorflow as tf

from robustcls.attacks import APGD, FAB, Square, draws
from robustcls.attacks.auto_pgd.apgd import AutoStep
from robustcls.attacks.losses import logit_difference
from robustcls.attacks.minimum_norm.fab import BoundaryStep, towards_hyperplane
from robustcls.attacks.square import _square
from robustcls.attacks.task import Batch
from robustcls.classifiers.classifier import Classifier

SHAPE = (3, 3, 1)
LABEL, TARGET = 0, 2
WEIGHTS = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)
HEAD = np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32)
IMAGE = np.random.default_rng(2).uniform(0.3, 0.7, SHAPE).astype(np.float32)


def logits(images):
    """Curved enough that steps are halved and boundaries missed."""
    hidden = tf.sin(4 * tf.reshape(images, [-1, 9]) @ WEIGHTS)
    return hidden @ HEAD + [4.0, 0, 0, 0]


def norm_of(offset, norm):
    return np.abs(offset).max() if norm == "inf" else np.sqrt(np.square(offset).sum())


def to_ball(point, epsilon, norm):
    offset = point - IMAGE
    if norm == "inf":
        offset = np.clip(offset, -epsilon, epsilon)
    elif norm_of(offset, "2") > epsilon:
        offset = offset * (epsilon / norm_of(offset, "2"))
    return np.clip(IMAGE + offset, 0, 1)


def loss_and_gradient(point, loss):
    point = tf.constant(point[None])
    with tf.GradientTape() as tape:
        tape.watch(point)
        value = loss(logits(point))
    return value.numpy().item(), tape.gradient(value, point).numpy()[0]


def margin_loss(z):
    first, _, third = tf.unstack(tf.sort(z[0], direction="DESCENDING")[:3])
    others = tf.reduce_max(tf.concat([z[:, :LABEL], z[:, LABEL + 1 :]], 1))
    return (others - z[0, LABEL]) / (first - third)


def apgd_iterates(start, epsilon, norm, steps):
    """Algorithm 1 of Croce and Hein with all losses kept in a list."""
    checkpoints, period = [0], int(0.22 * steps)
    while checkpoints[-1] <= steps:
        checkpoints.append(checkpoints[-1] + period)
        period = max(period - int(0.03 * steps), int(0.06 * steps))

    def ascend(x, gradient, step):
        unit = np.sign(gradient) if norm == "inf" else gradient / norm_of(gradient, "2")
        return to_ball(x + step * unit, epsilon, norm)

    step, x, before = 2 * epsilon, start, start
    value, gradient = loss_and_gradient(x, margin_loss)
    losses, steps_at, best_at = [value], [step], [value]
    best, best_value, best_gradient = x, value, gradient
    iterates = [x]
    for k in range(steps):
        z = ascend(x, gradient, step)
        following = (
            z if k == 0 else to_ball(x + 0.75 * (z - x) + 0.25 * (x - before), epsilon, norm)
        )
        before, x = x, following
        iterates.append(x)
        value, gradient = loss_and_gradient(x, margin_loss)
        losses.append(value)
        if value > best_value:
            best, best_value, best_gradient = x, value, gradient
        if k + 1 in checkpoints:
            since = checkpoints[checkpoints.index(k + 1) - 1]
            rises = sum(losses[i + 1] > losses[i] for i in range(since, k + 1))
            stuck = len(steps_at) > 1 and steps_at[-1] == steps_at[-2]
            stuck = stuck and best_at[-1] == best_value
            if rises <= 0.75 * (k + 1 - since) or stuck:
                step, x, gradient = step / 2, best, best_gradient
            steps_at.append(step)
            best_at.append(best_value)
    return iterates, steps_at


def batch_of(step):
    one = np.zeros(1, np.int64)
    return Batch(IMAGE[None], one + LABEL, one + TARGET, one.astype(np.uint64), one, one + step)


def tensors(values):
    return {name: tf.constant(value) for name, value in values.items()}


def fields(batch):
    return tensors({name: getattr(batch, name) for name in ("images", "labels", "targets", "step")})


@pytest.mark.parametrize(
    ("norm", "epsilon"), [("inf", 0.1), pytest.param("2", 0.3, marks=pytest.mark.long)]
)
def test_apgd_takes_the_published_steps(norm, epsilon):
    attack = APGD(epsilon=epsilon, norm=norm, loss="dlr", steps=100)
    state = tensors(attack.start(batch_of(0)))
    settings = tensors(attack.settings)
    start = state["current"].numpy()[0]
    expected, step_sizes = apgd_iterates(start, np.float32(epsilon), norm, 100)
    rule = AutoStep(norm, "dlr", False)
    for k in range(100):
        points, _, state = rule(logits, fields(batch_of(k)), state, settings)
        np.testing.assert_allclose(points[0], expected[k], atol=1e-4 * epsilon, err_msg=str(k))
    # The comparison says something about halving: it happened, and not each time.
    assert 2 < len(set(step_sizes)) <= len(step_sizes)


def fab_iterates(norm, steps):
    """Algorithm 1 of the paper for one target, with its three constants."""
    x, seen = IMAGE, []
    for _ in range(steps):
        value, gradient = loss_and_gradient(
            x, lambda z: logit_difference(z, tf.constant([LABEL]), tf.constant([TARGET]))
        )

        def to_boundary(point, x=x, value=value, gradient=gradient):
            gap = -(value + (gradient * (point - x)).sum())
            arrays = (point[None], gradient[None], np.array([gap], np.float32))
            return towards_hyperplane(*map(tf.constant, arrays), norm).numpy()[0]

        here, there = to_boundary(x), to_boundary(IMAGE)
        alpha = min(norm_of(here, norm) / (norm_of(here, norm) + norm_of(there, norm)), 0.1)
        x = (1 - alpha) * (x + 1.05 * here) + alpha * (IMAGE + 1.05 * there)
        x = np.clip(x, 0, 1)
        seen.append(x)
        if logits(x[None]).numpy().argmax() != LABEL:
            x = IMAGE + np.float32(0.9) * (x - IMAGE)
    return seen


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_fab_takes_the_published_steps(norm):
    state = tensors(FAB(norm=norm).start(batch_of(0)))
    expected = fab_iterates(norm, 12)
    fooled = [logits(x[None]).numpy().argmax() != LABEL for x in expected]
    assert 0 < sum(fooled) < 12
    for k in range(12):
        points, outputs, state = BoundaryStep(norm)(logits, fields(batch_of(k)), state, {})
        np.testing.assert_allclose(points[0], expected[k], atol=1e-3, err_msg=str(k))
        np.testing.assert_allclose(outputs, logits(points), atol=1e-5)


def test_square_of_norm_two_moves_mass_from_one_window_to_another():
    count, side, epsilon = 40, 3, 0.3
    keys = draws.derive(np.arange(count, dtype=np.uint64), 1)
    images = np.full((count, 10, 9, 2), 0.5, np.float32)
    offsets = np.random.default_rng(0).normal(size=images.shape).astype(np.float32)
    offsets *= epsilon / np.sqrt(np.square(offsets).sum((1, 2, 3), keepdims=True))
    changed = Square(epsilon=epsilon, norm="2")._move_mass(keys, images, images + offsets, side)
    changed -= images
    target = _square(draws.derive(keys, 0), images.shape, side)
    source = _square(draws.derive(keys, 1), images.shape, side)
    in_target, in_source = (np.zeros(images.shape, bool) for _ in range(2))
    in_target[target] = in_source[source] = True
    assert len({tuple(rows[:, 0, 0]) for rows in (target[1], source[1])}) == 2

    elsewhere = ~in_target & ~in_source
    np.testing.assert_allclose(changed[elsewhere], offsets[elsewhere], atol=1e-5)
    np.testing.assert_allclose(changed[in_source & ~in_target], 0, atol=1e-6)
    both = in_target | in_source
    for channel in range(2):
        before, after = (np.square(x * both)[..., channel].sum((1, 2)) for x in (offsets, changed))
        np.testing.assert_allclose(after, before, rtol=1e-3)
    assert np.abs(changed[in_target] - offsets[in_target]).mean() > 0.01


class Recorder(APGD):
    """Keeps what each run is told."""

    def start(self, batch):
        RECORDED.append(batch)
        return super().start(batch)


RECORDED: list[Batch] = []


def test_runs_aim_at_the_likeliest_classes_first_with_new_draws_each():
    def steady(images):
        return tf.constant([[9.0, 1, 3, 2, 0]]) + 0 * tf.reduce_sum(images)

    def scores(images):
        return tf.repeat(steady(images), tf.shape(images)[0], 0)

    model = Classifier(scores, name="steady", differentiable=True)
    RECORDED.clear()
    attack = Recorder(epsilon=0.1, loss="dlr", steps=1, restarts=2, target_classes=3)
    result = attack(model, IMAGE[None], np.array([0]))
    assert not result.success.any()
    assert [batch.targets.item() for batch in RECORDED] == [2, 2, 3, 3, 1, 1]
    assert len({batch.keys.item() for batch in RECORDED}) == 6
