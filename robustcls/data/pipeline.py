"""`tf.data` batches for training and evaluation from images in memory or in a memmap.

A training epoch is a pure function of (data, policy, batch_size, seed, epoch number): the order of
the images, the batches and every augmented bit. A run continued at epoch k in another process
therefore sees what the uninterrupted run would have seen.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, TypeAlias

import numpy as np
import tensorflow as tf

from robustcls._settings import PositiveInt, Range, checked
from robustcls._validation import InputError, check_images, check_labels
from robustcls.data.splits import Split, Splits
from robustcls.data.storage import MEMORY_LIMIT
from robustcls.distribution.batches import read_by_rows

Arrays: TypeAlias = tuple[Any, Any]
Policy: TypeAlias = Callable[..., tf.Tensor]


@dataclass
class ImageSource:
    """Images and labels that batches are read from, until `close` lets go of them.

    TensorFlow keeps the Python functions of a dataset for as long as the process lives, and with
    them what they read. Who trains many models in one process closes what each has read.

    Attributes:
        images: float32 [N, H, W, C] in [0, 1], or uint8.
        labels: int64 [N], or a `MultiHot`.
    """

    images: np.ndarray
    labels: np.ndarray

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the images and labels at `indices`.

        Args:
            indices: which images, int [K].
        """
        return self.images[indices], self.labels[indices]

    def close(self) -> None:
        """Lets go of the images; batches can no longer be read."""
        self.images, self.labels = self.images[:0].copy(), self.labels[:0].copy()


@checked
def train_batches(
    data: Splits | Split | Arrays | ImageSource,
    policy: Policy | None = None,
    *,
    batch_size: PositiveInt = 128,
    seed: Annotated[int, Range(minimum=0, maximum=2**63 - 1)] = 0,
    epochs: Iterator[int] | None = None,
    drop_remainder: bool = True,
) -> tf.data.Dataset:
    """Returns one shuffled, augmented epoch of `(images, labels)` batches, for Keras' `fit`.

    The dataset is finite and knows its length. Each iterator that is made from it and read takes
    the next number from `epochs` when its *first batch is read*, and its whole content follows
    from `seed` and that number. Making an iterator alone takes none.

    `fit` on a single device reads one iterator an epoch, so the default numbers its epochs 0, 1,
    2, ... Under a `tf.distribute` strategy Keras reads iterators in between as well. Where the
    numbers have to match, as in a resumed run, pass an iterator that answers with the epoch being
    trained, set by a callback's `on_epoch_begin`.

    Args:
        data: `Splits` (its `train` part is used), a `Split`, arrays `(images, labels)` with
            images float32 [N, H, W, C] in [0, 1] and labels int [N] or multi-hot rows, or an
            `ImageSource`.
        policy: called as `policy(images, seed=seed)` on every batch, with float32 images in [0, 1]
            and an int64 seed [2] of the batch's own; an `AugmentationPolicy`, or None for images as
            they are (default None).
        batch_size: images in a batch (int >= 1, default 128).
        seed: of the order and the augmentation (int in [0, 9223372036854775807], default 0).
        epochs: where each new iterator gets its epoch number; `itertools.count()` by default
            (default None).
        drop_remainder: leaves out the images that fill no batch (others in every epoch), so that
            batch shapes are fixed and batch norm never sees a handful of images (bool, default
            True).

    Returns:
        A dataset of (float32 [B, H, W, C] in [0, 1], int64 [B]), or float32 [B, classes] where
        labels are multi-hot rows.

    Raises:
        InputError: bad arrays, or fewer images than one batch with `drop_remainder`.
    """
    source = _source(data.train if isinstance(data, Splits) else data)
    count = len(source.labels)
    if drop_remainder and count < batch_size:
        raise InputError(
            f"batch_size must be at most the number of images, {count}; received {batch_size}."
        )
    batches = count // batch_size if drop_remainder else -(-count // batch_size)
    numbers = itertools.count() if epochs is None else epochs

    def epoch_order(_: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        def draw() -> tuple[np.int64, np.ndarray]:
            epoch = next(numbers)
            return np.int64(epoch), permutation(count, seed, epoch)

        epoch, order = tf.numpy_function(draw, [], (tf.int64, tf.int64))
        return tf.ensure_shape(epoch, []), tf.ensure_shape(order, [count])

    def epoch_batches(epoch: tf.Tensor, order: tf.Tensor) -> tf.data.Dataset:
        def batch_indices(batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            indices = order[batch * batch_size : (batch + 1) * batch_size]
            if drop_remainder:
                indices = tf.ensure_shape(indices, [batch_size])
            key = tf.random.experimental.stateless_fold_in(tf.stack([seed, epoch]), batch)
            return indices, key

        return tf.data.Dataset.range(batches).map(batch_indices)

    def load(indices: tf.Tensor, key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        batch_images, batch_labels = _fetch(source, indices)
        if policy is not None:
            shape = batch_images.shape
            batch_images = tf.ensure_shape(policy(batch_images, seed=key), shape)
        return batch_images, batch_labels

    order = tf.data.Dataset.range(1).map(epoch_order).flat_map(epoch_batches)
    dataset = _finish(order.map(load, num_parallel_calls=tf.data.AUTOTUNE), batches)
    if policy is not None:  # which may look at the whole batch
        return dataset
    return read_by_rows(dataset, order.map(lambda indices, _: indices), partial(_fetch, source))


@checked
def evaluation_batches(
    data: Split | Arrays | ImageSource, *, batch_size: PositiveInt = 256
) -> tf.data.Dataset:
    """Returns every image once, in order, unaugmented; the last batch may be smaller.

    Args:
        data: a `Split`, arrays `(images, labels)` with images float32 [N, H, W, C] in [0, 1]
            and labels int [N] or multi-hot rows, or an `ImageSource`.
        batch_size: images in a batch (int >= 1, default 256).

    Returns:
        A dataset of (float32 [B, H, W, C] in [0, 1], int64 [B]), or float32 [B, classes] where
        labels are multi-hot rows.

    Raises:
        InputError: bad arrays.
    """
    source = _source(data)
    count = len(source.labels)

    def indices(start: tf.Tensor) -> tf.Tensor:
        return tf.range(start, tf.minimum(start + batch_size, count))

    order = tf.data.Dataset.range(0, count, batch_size).map(indices)
    read = partial(_fetch, source)
    dataset = order.map(read, num_parallel_calls=tf.data.AUTOTUNE)
    return read_by_rows(_finish(dataset, -(-count // batch_size)), order, read)


def arrays_of(data: Split | Arrays | tf.data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Returns the images of any kind of data, uint8 or float32 in [0, 1], and their labels.

    Args:
        data: a split, (images float32 [N, H, W, C] in [0, 1], labels int [N] or multi-hot rows),
            or a dataset of such pairs, or of dictionaries with "image" and "label", in batches or
            one by one.

    Returns:
        The images, and labels int64 [N] or a `MultiHot`.

    Raises:
        InputError: it is nothing of the kind, or holds no image.
    """
    if isinstance(data, tf.data.Dataset):
        return _gathered(data)
    source = _source(data)
    return source.images, source.labels


def _gathered(batches: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(batches.element_spec, dict) and {"image", "label"} <= set(batches.element_spec):
        # As TensorFlow Datasets has them.
        batches = batches.map(lambda example: (example["image"], example["label"]))
    spec = batches.element_spec
    if not (isinstance(spec, tuple) and len(spec) == 2 and all(map(_is_tensor, spec))):
        raise InputError(
            f"data must be a dataset of (images, labels); received elements of {_form(spec)}"
        )
    if batches.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise InputError("data must be a dataset with an end; received one that repeats for ever.")
    if getattr(spec[0], "shape", tf.TensorShape(None)).rank == 3:
        batches = batches.batch(128)
    parts, size = [], 0
    try:
        for images, labels in batches:
            parts.append((images.numpy(), labels.numpy()))
            size += parts[-1][0].nbytes
            if size > MEMORY_LIMIT:
                raise InputError(
                    f"data must fit into memory; received {len(parts)} batches of together more "
                    f"than {MEMORY_LIMIT / 2**30:g} GiB, or without an end. Did you mean "
                    "data.take(...)?"
                )
    except tf.errors.OpError as error:
        reason = str(error.message).splitlines()[0].split("}} ")[-1].split(" [Op:")[0]
        raise InputError(f"data must be a dataset that can be read; it raised: {reason}") from error
    if not parts:
        raise InputError("data must have at least one image; received an empty dataset.")
    images, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
    if images.dtype != np.uint8:
        images = check_images(images, "images of data")
    return images, check_labels(labels, len(images), argument="labels of data", several=True)


def _is_tensor(spec: Any) -> bool:
    return isinstance(spec, tf.TensorSpec)


def _form(spec: Any) -> str:
    if isinstance(spec, dict):
        return f"a dictionary ({', '.join(map(str, spec))}). Did you mean data.map(...) to a pair?"
    if isinstance(spec, tuple) and len(spec) == 2:
        return "a pair of which one is no tensor. Did you mean data.map(...) to images and labels?"
    return f"{len(spec)} parts." if isinstance(spec, tuple) else "one part."


def permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    """Returns int64 [count], the order of epoch `epoch`: a function of its arguments alone.

    NumPy promises that a bit generator's raw stream never changes between versions, which it does
    not for `Generator.permutation`; so raw draws are sorted.
    """
    draws = np.random.Philox(np.random.SeedSequence([seed, epoch])).random_raw(count)
    return np.argsort(draws, kind="stable").astype(np.int64)


def _source(data: Split | Arrays | ImageSource) -> ImageSource:
    if isinstance(data, ImageSource):
        return data
    if isinstance(data, Split):
        if len(data) == 0:
            raise InputError("data must have at least one image; received an empty split.")
        return ImageSource(data.images, data.labels)
    if not (isinstance(data, tuple) and len(data) == 2):
        hint = " Did you mean its test part?" if isinstance(data, Splits) else ""
        raise InputError(
            f"data must be a Split or a pair (images, labels); received {type(data).__name__}."
            + hint
        )
    images = check_images(data[0])
    return ImageSource(images, check_labels(data[1], len(images), several=True))


def _fetch(source: ImageSource, indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Reads a batch through NumPy, so that a memmap stays on disk and nothing enters the graph."""
    batch_images, batch_labels = tf.numpy_function(
        source.take,
        [indices],
        (tf.as_dtype(source.images.dtype), tf.as_dtype(source.labels.dtype)),
        stateful=False,
    )
    batch_images = tf.ensure_shape(batch_images, [*indices.shape, *source.images.shape[1:]])
    if source.images.dtype == np.uint8:
        batch_images = tf.cast(batch_images, tf.float32) / 255.0
    batch_labels = tf.ensure_shape(batch_labels, [*indices.shape, *source.labels.shape[1:]])
    # Keras' losses take multi-hot rows as floats.
    several = batch_labels.dtype == tf.bool
    return batch_images, tf.cast(batch_labels, tf.float32) if several else batch_labels


def _finish(dataset: tf.data.Dataset, batches: int) -> tf.data.Dataset:
    options = tf.data.Options()
    options.deterministic = True
    # Keras makes iterators that it never reads; they must not take an epoch number.
    options.experimental_warm_start = False
    return (
        dataset.prefetch(tf.data.AUTOTUNE)
        .apply(tf.data.experimental.assert_cardinality(batches))
        .with_options(options)
    )
