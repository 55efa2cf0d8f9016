"""What a training step does differently when several replicas take it together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf


def replica_count() -> int:
    """Returns how many replicas take each step together; 1 outside of a strategy's scope."""
    return int(tf.distribute.get_strategy().num_replicas_in_sync)


def worker_count() -> int:
    """Returns how many processes the present strategy joins; 1 outside of a strategy's scope."""
    strategy = tf.distribute.get_strategy()
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 1
    resolver = strategy.cluster_resolver
    addresses = resolver.cluster_spec().as_dict() if resolver else {}
    return max(1, len(addresses.get("chief", ())) + len(addresses.get("worker", ())))


def share_of(loss: tf.Tensor) -> tf.Tensor:
    """Returns the part of a mean loss that a replica takes the gradient of.

    Keras' optimizers add up the gradients of all replicas, and each replica's loss is a mean over
    its own images. So a `train_step` that makes its own loss divides it by their number, as Keras'
    losses do themselves.

    Args:
        loss: the mean over the replica's images, a scalar.
    """
    count = replica_count()
    return loss if count == 1 else loss / tf.cast(count, loss.dtype)


def draw_for_replica(
    draw: Callable[[Any], tf.Tensor], shape: Sequence[Any] | tf.Tensor, axis: int = 0
) -> tf.Tensor:
    """Returns a replica's part of what one process would draw for the whole batch.

    Args:
        draw: makes numbers of a shape, the same in every process: one of `tf.random.stateless_*`
            with a seed.
        shape: of the replica's own numbers; every replica has as many images.
        axis: that of the images (int >= 0, default 0).
    """
    count = replica_count()
    if count == 1:
        return draw(shape)
    sizes = tf.convert_to_tensor(shape, tf.int32)
    rows = sizes[axis]
    numbers = draw(tf.tensor_scatter_nd_update(sizes, [[axis]], [rows * count]))
    own = tf.gather(numbers, own_part() * rows + tf.range(rows), axis=axis)
    known = tf.get_static_value(sizes, partial=True)
    return own if known is None else tf.ensure_shape(own, list(known))


def own_part() -> Any:
    """Returns which part of each batch the replica that asks has, from 0 on."""
    context = tf.distribute.get_replica_context()
    number = 0 if context is None else context.replica_id_in_sync_group
    return part_of(number, replica_count(), worker_count())


def part_of(replica: Any, replicas: int, workers: int) -> Any:
    """Returns which part of each batch a replica has, from 0 on.

    Keras' `predict` joins the first replicas of all workers, then the second ones, and so on.

    Args:
        replica: its number, by which a worker's replicas are neighbours; an integer or a tensor.
        replicas: how many, of all workers.
        workers: how many.
    """
    own = replicas // workers
    return replica % own * workers + replica // own
