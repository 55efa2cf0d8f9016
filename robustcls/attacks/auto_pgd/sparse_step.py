"""Auto-PGD in the L1 ball."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from robustcls.attacks import draws, losses, norms, sparse
from robustcls.attacks.gradient import Logits, Tensors, value_and_gradient
from robustcls.attacks.task import Batch, State

# The radii of the balls, in multiples of epsilon, and the share of the steps within each.
RADII = (3.0, 2.0, 1.0)
SHARES = (0.3, 0.3, 0.4)
CHECK_SHARE = 0.04
STEP_CUT = 1.5
SMALLEST_STEP = 0.1
FEWER = 0.95
# Of epsilon, which leaves room for rounding.
NEARLY = 1 - 1e-6


@dataclass(frozen=True)
class SparseStep:
    """A step along the signs of the largest gradients, to the nearest point of ball and cube.

    How many values a step changes follows from how many the best point so far has changed. Where
    those have become fewer since the last checkpoint, the search goes on from there with full
    steps; elsewhere steps get shorter.

    Source: Croce and Hein, "Mind the box: l1-APGD for sparse adversarial attacks on image
    classifiers", 2021, algorithm 1 and section 4 (balls of several radii).

    Args:
        loss: "ce" or "dlr".
        aimed: raise the loss of one target at a time.
        samples: answers of a random model to average (default 1).
    """

    loss: str
    aimed: bool
    samples: int = 1

    def __call__(
        self, logits: Logits, batch: Tensors, state: Tensors, settings: Tensors
    ) -> tuple[tf.Tensor, tf.Tensor, Tensors]:
        def climb(points: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            outputs = logits(points)
            return losses.raised(outputs, batch, self.loss, self.aimed), outputs

        images, point = batch["images"], state["current"]
        value, outputs, gradient = value_and_gradient(climb, point, self.samples)
        radius, next_radius, first, last, check = (
            tf.gather(settings[name], batch["step"])
            for name in ("radii", "next_radii", "first", "last", "check")
        )
        first, last, check = first > 0, last > 0, check > 0

        # A ball's first point is the best so far.
        better = first | (value > state["best_loss"])
        best = where(better, point, state["best"])
        best_gradient = where(better, gradient, state["best_gradient"])
        best_loss = tf.where(better, value, state["best_loss"])

        changed = _changed(best - images)
        fewer = check & (changed < FEWER * state["changed"])
        step_size = tf.where(first | fewer, radius, state["step_size"])
        shorter = tf.maximum(state["step_size"] / STEP_CUT, SMALLEST_STEP * radius)
        step_size = tf.where(check & ~fewer, shorter, step_size)
        changed = tf.where(first | check, changed, state["changed"])

        base, along = where(fewer, best, point), where(fewer, best_gradient, gradient)
        signs = _signs_of_largest(along, changed / STEP_CUT)
        stride = tf.math.divide_no_nan(step_size[:, None, None, None], norms.lengths(signs, "1"))
        # From one ball to the next the best point goes along.
        moved = where(last, best, base + stride * signs)
        reach = tf.where(last, next_radius, radius)[:, None, None, None]
        return (
            point,
            outputs,
            {
                "current": sparse.project(moved, images, reach),
                "best": best,
                "best_gradient": best_gradient,
                "best_loss": best_loss,
                "step_size": step_size,
                "changed": changed,
            },
        )


def sparse_settings(epsilon: float, steps: int) -> State:
    """Returns, for each point of a run, the radius of its ball and what happens there.

    Args:
        epsilon: the last radius.
        steps: in all balls together; each gets one at least.

    Returns:
        float32 arrays of one length: `radii` of the balls, `next_radii` of those that come next,
        and where a ball is `first` or `last` looked at, and where a `check` is.
    """
    counts = [math.ceil(share * steps) for share in SHARES[:-1]]
    counts.append(max(1, steps - sum(counts)))
    radii, next_radii, first, last, check = [], [], [], [], []
    following = [*RADII[1:], RADII[-1]]
    for count, radius, after in zip(counts, RADII, following, strict=True):
        period = max(int(CHECK_SHARE * count), 1)
        radii += [radius] * (count + 1)
        next_radii += [after] * (count + 1)
        first += [True, *[False] * count]
        last += [*[False] * count, True]
        check += [False, *((place + 1) % period == 0 for place in range(count))]
    scale = np.float32(epsilon * NEARLY)
    return {
        "radii": scale * np.array(radii, np.float32),
        "next_radii": scale * np.array(next_radii, np.float32),
        "first": np.array(first, np.float32),
        "last": np.array(last, np.float32),
        "check": np.array(check, np.float32),
    }


def sparse_start(batch: Batch, epsilon: float) -> State:
    """Returns the state a run begins with: a normal draw, moved into the widest ball."""
    count, shape = len(batch.images), batch.images.shape[1:]
    points = batch.images + draws.normal(batch.keys, shape).astype(np.float32)
    radius = np.float32(RADII[0] * epsilon * NEARLY)
    current = sparse.project(points, batch.images, radius).numpy()
    return {
        "current": current,
        "best": current,
        "best_gradient": np.zeros_like(current),
        "best_loss": np.full(count, -np.inf, np.float32),
        "step_size": np.full(count, radius, np.float32),
        "changed": np.zeros(count, np.float32),
    }


def where(chosen: tf.Tensor, yes: tf.Tensor, no: tf.Tensor) -> tf.Tensor:
    """Chooses whole images, by bool [N]."""
    return tf.where(chosen[:, None, None, None], yes, no)


def _changed(offsets: tf.Tensor) -> tf.Tensor:
    return norms.lengths(offsets, "0")[:, 0, 0, 0]


def _signs_of_largest(gradient: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Signs of about `count` values of each image, those of the largest size, ties included."""
    shape = tf.shape(gradient)
    total = tf.reduce_prod(shape[1:])
    sizes = tf.reshape(tf.abs(gradient), [shape[0], total])
    place = tf.cast(tf.cast(total, tf.float32) - count, tf.int32)
    place = tf.clip_by_value(place, 0, total - 1)
    least = tf.gather(tf.sort(sizes), place, batch_dims=1)[:, None, None, None]
    return tf.where(tf.abs(gradient) >= least, tf.sign(gradient), 0.0)
