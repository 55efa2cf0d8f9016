"""Each replica's rows of every batch."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from robustcls._validation import InputError
from robustcls.distribution.replicas import part_of, worker_count

_INDICES: weakref.WeakKeyDictionary[tf.data.Dataset, tuple[tf.data.Dataset, Callable[..., Any]]]
_INDICES = weakref.WeakKeyDictionary()


def read_by_rows(
    dataset: tf.data.Dataset, indices: tf.data.Dataset, read: Callable[[tf.Tensor], Any]
) -> tf.data.Dataset:
    """Says how to read some rows of a dataset's batches alone, and returns the dataset.

    Args:
        dataset: of batches.
        indices: int64 [B] for each of them, in the same order.
        read: returns the rows of some indices.
    """
    _INDICES[dataset] = indices, read
    return dataset


def distribute_batches(
    dataset: tf.data.Dataset, strategy: tf.distribute.Strategy, *, even: bool
) -> tf.distribute.DistributedDataset:
    """Returns a dataset as Keras' `fit` takes it under a strategy: every batch is divided.

    So the replicas together see, step by step, the batches that one process would see.
    (TensorFlow's own sharding gives whole batches to the workers in turn and then divides those.)
    A worker reads its own rows alone where `read_by_rows` says how, else whole batches.

    Args:
        dataset: of the whole batches, the same for every worker.
        strategy: of one or more workers.
        even: give every replica as many rows of a batch; what is left over, fewer rows than there
            are replicas, is left out. Otherwise the first replicas have one row more, and where a
            batch has fewer rows than there are replicas the last have none.
    """
    with strategy.scope():
        workers = worker_count()
    replicas = strategy.num_replicas_in_sync
    own = replicas // workers

    def for_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        first = context.input_pipeline_id * own
        parts = [part_of(first + local, replicas, workers) for local in range(own)]
        whole, read = _INDICES.get(dataset, (dataset, None))

        def rows_of(part: int, batch: Any) -> Any:
            return tf.nest.map_structure(lambda x: _rows(x, part, replicas, even), batch)

        def divided(*batch: Any) -> tf.data.Dataset:
            pieces = [tf.data.Dataset.from_tensors(rows_of(part, batch)) for part in parts]
            joined = pieces[0]
            for piece in pieces[1:]:
                joined = joined.concatenate(piece)
            return joined

        if own == 1:
            worker = whole.map(lambda *batch: rows_of(parts[0], batch))
        else:
            worker = whole.flat_map(divided)
        if read is not None:
            worker = worker.map(read, tf.data.AUTOTUNE)
        count = int(dataset.cardinality())
        if count >= 0:
            worker = worker.apply(tf.data.experimental.assert_cardinality(count * own))
        # A batch is ready before the step asks, as in one process; an iterator that is never read
        # still reads nothing.
        options = tf.data.Options()
        options.experimental_warm_start = False
        return worker.prefetch(tf.data.AUTOTUNE).with_options(options)

    distributed = strategy.distribute_datasets_from_function(for_worker)
    # Every replica has every batch, if without rows. TensorFlow would let the workers ask each
    # other before each step whether it is so.
    distributed._enable_get_next_as_optional = False
    return distributed


def array_batches(
    data: tuple[Any, Any, Any], batch_size: int, shuffle: bool, *, divisor: int = 1
) -> tf.data.Dataset:
    """Returns batches of arrays, in the same order on every worker.

    Args:
        data: (x, y, sample_weight), of which the last two may be None.
        batch_size: rows of a batch.
        shuffle: another order in every epoch.
        divisor: of the rows of every batch; the rows that are left over at the end of an epoch are
            left out (int >= 1, default 1).

    Raises:
        InputError: they are no arrays, or the batch size is no multiple of the divisor.
    """
    if batch_size % divisor:
        raise InputError(
            f"batch_size must be a multiple of the number of replicas, {divisor}; received "
            f"{batch_size}."
        )
    whole = tuple(part for part in data if part is not None)
    try:
        dataset = tf.data.Dataset.from_tensor_slices(whole)
    except (TypeError, ValueError) as error:
        raise InputError(
            "x must be arrays or a tf.data.Dataset to train on several replicas; received "
            f"{type(data[0]).__name__}."
        ) from error
    if data[1] is None and data[2] is not None:
        dataset = dataset.map(lambda x, weight: (x, None, weight))
    if shuffle:
        dataset = dataset.shuffle(int(dataset.cardinality()), seed=0)
    return dataset.take(int(dataset.cardinality()) // divisor * divisor).batch(batch_size)


def without_small(dataset: tf.data.Dataset, rows: int) -> tf.data.Dataset:
    """Returns the batches that have enough rows; how many there are is then no longer known.

    It is the dataset itself where all batches are known to have (`drop_remainder=True`).

    Args:
        dataset: of batches.
        rows: that there must be.
    """
    sizes = [spec.shape[0] for spec in tf.nest.flatten(dataset.element_spec)]
    if all(size is not None and size >= rows for size in sizes):
        return dataset
    return dataset.filter(lambda *batch: tf.shape(tf.nest.flatten(batch)[0])[0] >= rows)


def _rows(x: tf.Tensor, part: int, replicas: int, even: bool) -> tf.Tensor:
    each, rest = tf.shape(x)[0] // replicas, tf.shape(x)[0] % replicas
    if even:
        rows = x[each * part : each * (part + 1)]
    else:
        start = each * part + tf.minimum(part, rest)
        rows = x[start : start + each + tf.cast(part < rest, tf.int32)]
    if x.shape[0] is None:
        return rows
    more = 0 if even else int(part < x.shape[0] % replicas)
    return tf.ensure_shape(rows, [x.shape[0] // replicas + more, *x.shape[1:]])
