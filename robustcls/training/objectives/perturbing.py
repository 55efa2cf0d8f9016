"""Adversarial images for a step of training, in the L-infinity ball."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from robustcls._validation import InputError
from robustcls.distribution.replicas import draw_for_replica, replica_count
from robustcls.training.objectives.objective import Batch, found_gradient

# Standard deviation of the noise that TRADES' authors begin with.
_START = 0.001
Raised = Callable[[tf.Tensor], tf.Tensor]
"""What an attack raises: logits [N, classes] to a number for each image [N]."""


def ascend(
    batch: Batch,
    raised: Raised,
    points: tf.Tensor,
    *,
    epsilon: float,
    step_size: float,
    steps: int,
    training: bool,
) -> tf.Tensor:
    """Returns `points` after steps along the sign of the gradient, float32 [N, H, W, C].

    After each step they are projected to the ball around the batch's images and to [0, 1].

    Args:
        batch: the images and the model.
        raised: what the steps raise.
        points: float32 [N, H, W, C], where to begin.
        epsilon: radius of the ball.
        step_size: length of a step.
        steps: how many.
        training: batch norm and dropout as in training; moving statistics then see the points.
    """

    def step(current: tf.Tensor) -> tuple[tf.Tensor]:
        moved = current + step_size * direction(batch, raised, current, training=training)
        return (project(moved, batch.images, epsilon),)

    # Batch norm over several replicas cannot be in a loop of the graph.
    if steps == 1 or (training and replica_count() > 1):
        for _ in range(steps):
            (points,) = step(points)
        return tf.stop_gradient(points)
    (points,) = tf.while_loop(
        lambda _: True, step, (points,), maximum_iterations=steps, parallel_iterations=1
    )
    return tf.stop_gradient(points)


def ascend_from_gaussian(
    batch: Batch, raised: Raised, *, epsilon: float, step_size: float | None, steps: int
) -> tf.Tensor:
    """Returns points raised from Gaussian noise of .001, the model in inference mode; see `ascend`.

    Args:
        batch: the images and the model.
        raised: what the steps raise.
        epsilon: radius of the ball.
        step_size: length of a step; epsilon / 4 when None.
        steps: how many.
    """
    noise = gaussian(batch, _START)
    return ascend(
        batch,
        raised,
        batch.images + noise,
        epsilon=epsilon,
        step_size=epsilon / 4 if step_size is None else step_size,
        steps=steps,
        training=False,
    )


def direction(batch: Batch, raised: Raised, points: tf.Tensor, *, training: bool) -> tf.Tensor:
    """Returns the sign of the gradient of `raised`, float32 [N, H, W, C]; see `ascend`."""
    # Gradients of the weights would double the work.
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(points)
        total = tf.reduce_sum(raised(batch.logits(points, training=training)))
        total = batch.scale_loss(total)
    return tf.stop_gradient(tf.sign(found_gradient(tape.gradient(total, points))))


def project(points: tf.Tensor, images: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Returns the nearest points within `epsilon` of `images` and in [0, 1]."""
    points = tf.clip_by_value(points, images - epsilon, images + epsilon)
    return tf.clip_by_value(points, 0.0, 1.0)


def uniform(batch: Batch, radius: float) -> tf.Tensor:
    """Returns noise uniform within `radius`, float32 of the images' shape."""
    seed = batch.draw()
    return draw_for_replica(
        lambda shape: tf.random.stateless_uniform(shape, seed, -radius, radius),
        tf.shape(batch.images),
    )


def gaussian(batch: Batch, sigma: float) -> tf.Tensor:
    """Returns Gaussian noise of a standard deviation, float32 of the images' shape."""
    seed = batch.draw()
    return draw_for_replica(
        lambda shape: tf.random.stateless_normal(shape, seed, 0.0, sigma), tf.shape(batch.images)
    )


def check_step(step_size: float | None, epsilon: float) -> None:
    """Refuses a step that is longer than the ball is wide.

    Args:
        step_size: None where it follows from epsilon.
        epsilon: radius of the ball.

    Raises:
        InputError: it is.
    """
    if step_size is not None and step_size > 2 * epsilon:
        raise InputError(
            f"step_size must be at most 2 * epsilon, the width of the ball; received {step_size!r} "
            f"with epsilon {epsilon!r}."
        )
