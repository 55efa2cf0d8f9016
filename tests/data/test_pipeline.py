import gc
import hashlib
import itertools
import json
import subprocess
import sys
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from robustcls._validation import InputError
from robustcls.data.augment import AugmentationPolicy
from robustcls.data.pipeline import ImageSource, evaluation_batches, permutation, train_batches
from robustcls.data.splits import Split, Splits


def numbered(count: int = 50, channels: int = 1) -> Split:
    """Images whose label is their index, and whose pixels all tell it too."""
    labels = np.arange(count)
    images = np.broadcast_to(labels[:, None, None, None], (count, 6, 6, channels))
    return Split(images.astype(np.uint8), labels, labels.astype(str))


def epoch_labels(dataset: tf.data.Dataset) -> list[int]:
    return [int(label) for _, labels in dataset for label in labels]


@pytest.mark.parametrize("count", [1, 7, 1000])
def test_permutation_holds_every_index_once(count):
    np.testing.assert_array_equal(np.sort(permutation(count, 3, 4)), np.arange(count))


def test_permutation_follows_from_seed_and_epoch_for_good():
    assert permutation(8, 0, 0).tolist() == [0, 3, 7, 5, 1, 2, 6, 4]
    orders = {tuple(permutation(100, *key)) for key in itertools.product((0, 1, 2), repeat=2)}
    assert len(orders) == 9


def test_permutations_move_every_image_everywhere():
    places = np.stack([np.argsort(permutation(10, 0, epoch)) for epoch in range(2000)])
    hits = np.stack([(places == place).mean(0) for place in range(10)])
    assert np.abs(hits - 0.1).max() < 5 * np.sqrt(0.09 / 2000)


def test_an_epoch_shows_every_image_once_with_its_own_label():
    dataset = train_batches(numbered(), batch_size=8, drop_remainder=False)
    batches = [(images.numpy(), labels.numpy()) for images, labels in dataset]
    assert [len(labels) for _, labels in batches] == [8] * 6 + [2]
    assert dataset.cardinality() == len(batches)
    labels = np.concatenate([labels for _, labels in batches])
    images = np.concatenate([images for images, _ in batches])
    np.testing.assert_array_equal(np.sort(labels), np.arange(50))
    np.testing.assert_array_equal(images, numbered().take(labels).float_images())
    assert labels.tolist() != sorted(labels)


def test_training_batches_are_full_by_default_and_leave_out_others_each_epoch():
    dataset = train_batches(numbered(), batch_size=16)
    assert dataset.cardinality() == 3
    images, labels = dataset.element_spec
    assert (images.shape, images.dtype) == ((16, 6, 6, 1), tf.float32)
    assert (labels.shape, labels.dtype) == ((16,), tf.int64)
    left_out = [set(range(50)) - set(epoch_labels(dataset)) for _ in range(3)]
    assert [len(missing) for missing in left_out] == [2, 2, 2]
    assert left_out[0] != left_out[1]


def test_epochs_come_from_the_iterator_and_decide_the_order():
    numbers = iter([7, 3, 7])
    dataset = train_batches(numbered(), batch_size=10, epochs=numbers)
    first, second, third = (epoch_labels(dataset) for _ in range(3))
    assert first == third == permutation(50, 0, 7).tolist()
    assert second == permutation(50, 0, 3).tolist()
    assert first != epoch_labels(train_batches(numbered(), batch_size=10, seed=1, epochs=iter([7])))


def test_an_iterator_that_is_not_read_takes_no_epoch():
    taken = []
    numbers = (taken.append(number) or number for number in itertools.count())
    dataset = train_batches(numbered(), batch_size=10, epochs=numbers)
    iter(dataset)
    assert taken == []
    next(iter(dataset))
    assert taken == [0]


def test_keras_fit_trains_on_epochs_0_1_2():
    taken = []
    numbers = (taken.append(number) or number for number in itertools.count())
    dataset = train_batches(numbered(), batch_size=10, epochs=numbers)
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(50)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=["accuracy"])
    validation = evaluation_batches(numbered())
    model.fit(dataset, epochs=3, validation_data=validation, shuffle=False, verbose=0)
    assert taken == [0, 1, 2]


@pytest.mark.parametrize("channels", [1, pytest.param(3, marks=pytest.mark.long)])
def test_every_batch_is_augmented_by_a_seed_of_its_own(channels):
    images = np.full((40, 8, 8, channels), 128, np.uint8)
    split = Split(images, np.zeros(40), np.arange(40))
    policy = AugmentationPolicy(noise_probability=1.0)
    dataset = train_batches(split, policy, batch_size=4)
    batches = [images.numpy().tobytes() for _ in range(2) for images, _ in dataset]
    assert len(set(batches)) == 20
    again = train_batches(split, policy, batch_size=4)
    assert batches[:10] == [images.numpy().tobytes() for images, _ in again]
    other = train_batches(split, policy, batch_size=4, seed=1)
    assert not set(batches) & {images.numpy().tobytes() for images, _ in other}


def test_order_does_not_depend_on_the_policy():
    plain = train_batches(numbered(channels=3), batch_size=10)
    augmented = train_batches(numbered(channels=3), AugmentationPolicy(), batch_size=10)
    assert epoch_labels(plain) == epoch_labels(augmented)


RESUMED = """
import json, itertools, sys
sys.path.insert(0, sys.argv[1])
from test_pipeline import digests
print(json.dumps(digests(itertools.count(2), 1)))
"""


def digests(epochs, count: int) -> list[list[str]]:
    """A hash of every batch of `count` epochs."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (96, 16, 16, 3), np.uint8)
    split = Split(images, np.arange(96), np.arange(96))
    policy = AugmentationPolicy(hue=0.1, speckle_stddev=0.2, noise_probability=0.8)
    dataset = train_batches(split, policy, batch_size=32, seed=11, epochs=epochs)
    return [
        [
            hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
            for images, labels in dataset
        ]
        for _ in range(count)
    ]


@pytest.mark.long
def test_a_run_resumed_in_another_process_sees_the_same_bits(request):
    whole = digests(itertools.count(), 3)
    command = [sys.executable, "-c", RESUMED, str(request.path.parent)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(result.stdout.splitlines()[-1]) == whole[2:]
    assert len({digest for epoch in whole for digest in epoch}) == 9


def test_splits_give_their_training_part():
    train, rest = numbered(20), numbered(4)
    splits = Splits(train, rest, rest, tuple("abcdefghijklmnopqrst"), "made up")
    assert sorted(epoch_labels(train_batches(splits, batch_size=10))) == list(range(20))


def test_a_memmap_and_float_arrays_give_the_same_batches(tmp_path):
    split = numbered()
    np.save(tmp_path / "images.npy", split.images)
    on_disk = Split(np.load(tmp_path / "images.npy", mmap_mode="r"), split.labels, split.ids)
    arrays = (split.float_images(), split.labels)
    for data in (on_disk, arrays):
        for (expected, _), (images, _) in zip(
            train_batches(split, batch_size=16), train_batches(data, batch_size=16), strict=True
        ):
            np.testing.assert_array_equal(images, expected)


@pytest.mark.parametrize("batch_size", [7, 25, 256])
def test_evaluation_shows_every_image_once_in_order(batch_size):
    split = numbered()
    dataset = evaluation_batches(split, batch_size=batch_size)
    batches = list(dataset)
    assert dataset.cardinality() == len(batches) == -(-50 // batch_size)
    images = np.concatenate([images for images, _ in batches])
    np.testing.assert_array_equal(images, split.float_images())
    assert epoch_labels(dataset) == list(range(50))
    assert dataset.element_spec[0].shape.as_list() == [None, 6, 6, 1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: train_batches(numbered(5), batch_size=8), "batch_size must be at most .* 5; rec"),
        (lambda: train_batches(numbered(), batch_size=0), "batch_size must be an integer >= 1"),
        (lambda: train_batches(numbered(), seed=-1), "seed must be an integer >= 0"),
        (lambda: train_batches(numbered().take(slice(0, 0))), "at least one image"),
        (lambda: train_batches(np.zeros((4, 8, 8, 3))), "data must be a Split or a pair"),
        (lambda: train_batches((np.full((4, 8, 8, 3), 200.0), np.zeros(4))), "images / 255"),
        (lambda: evaluation_batches((np.zeros((4, 8, 8, 3)), np.zeros(3))), "labels must be 4"),
        (lambda: evaluation_batches(numbered(), batch_size=2.5), "batch_size must be an integer"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_a_closed_source_holds_no_images():
    images = np.random.default_rng(0).random((10, 4, 4, 1), np.float32)
    labels = np.arange(10)
    watched = weakref.ref(images)
    source = ImageSource(images, labels)
    batches = train_batches(source, batch_size=4, seed=3)
    expected = train_batches((images.copy(), labels), batch_size=4, seed=3)
    for (got, got_labels), (want, want_labels) in zip(batches, expected, strict=True):
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(got_labels, want_labels)
    source.close()
    del images
    gc.collect()
    assert watched() is None
    with pytest.raises(tf.errors.OpError, match="out of bounds"):
        next(iter(batches))
