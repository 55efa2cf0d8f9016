"""Each worker's rows of a batch, and what it reads for them."""

import contextlib
import types

import numpy as np
import pytest

from robustcls import evaluation_batches, train_batches
from robustcls.distribution import batches
from robustcls.distribution.timing import slow_workers


class Recorded:
    """Images that know which of them were read."""

    dtype, shape = np.dtype(np.float32), (11, 2, 2, 1)

    def __init__(self):
        self.read = []

    def __getitem__(self, places):
        self.read += places.tolist()
        return np.broadcast_to(np.float32(places)[:, None, None, None], (len(places), 2, 2, 1))


def of_worker(dataset, index, monkeypatch, even):
    """A worker's share, as two of them divide the dataset."""
    monkeypatch.setattr(batches, "worker_count", lambda: 2)
    context = types.SimpleNamespace(input_pipeline_id=index)
    strategy = types.SimpleNamespace(
        num_replicas_in_sync=2,
        scope=contextlib.nullcontext,
        distribute_datasets_from_function=lambda share: share(context),
    )
    return batches.distribute_batches(dataset, strategy, even=even)


@pytest.mark.parametrize("policy", [None, lambda images, seed: images])
def test_a_worker_reads_its_own_rows(policy, monkeypatch):
    def make(images):
        from robustcls.data.pipeline import ImageSource

        source = ImageSource(images, np.arange(11))
        return train_batches(source, policy, batch_size=4, seed=3)

    whole = [labels.numpy() for _, labels in make(Recorded())]
    shares = []
    for index in range(2):
        images = Recorded()
        share = of_worker(make(images), index, monkeypatch, even=True)
        rows = [(pictures.numpy(), labels.numpy()) for pictures, labels in share]
        assert all((pictures[:, 0, 0, 0] == labels).all() for pictures, labels in rows)
        shares.append([labels for _, labels in rows])
        assert len(images.read) == (4 if policy is None else 8)
    for batch, first, second in zip(whole, *shares, strict=True):
        np.testing.assert_array_equal(batch, [*first, *second])


def test_an_evaluation_leaves_no_row_out(monkeypatch):
    data = np.zeros((11, 2, 2, 1), "float32"), np.arange(11)
    found = []
    for index in range(2):
        share = of_worker(evaluation_batches(data, batch_size=5), index, monkeypatch, even=False)
        found.append([labels.numpy().tolist() for _, labels in share])
    assert found == [[[0, 1, 2], [5, 6, 7], [10]], [[3, 4], [8, 9], []]]


@pytest.mark.parametrize(
    ("seconds", "slow"),
    [
        ([0.1, 0.1, 0.11], []),
        ([0.1, 0.4], [1]),
        ([0.3, 0.1, 0.1, 0.2], [0, 3]),
        ([0.001, 0.004], []),
    ],
)
def test_who_is_slow(seconds, slow):
    assert slow_workers(seconds) == slow
