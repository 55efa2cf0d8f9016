"""The queue behind both front ends, with a stand-in for the model."""

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import tensorflow as tf

from robustcls.serving.errors import ServingError
from robustcls.serving.server.batching import Batcher, BatchingParameters


class Model:
    """Doubles its input; refuses batches with a negative number; waits for `gate`."""

    def __init__(self):
        self.batches = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, inputs):
        self.gate.wait(10)
        self.batches.append(len(inputs["x"]))
        if (inputs["x"] < 0).any():
            raise tf.errors.InvalidArgumentError(None, None, "negative")
        return {"y": 2 * inputs["x"]}


@contextlib.asynccontextmanager
async def batcher_of(model, together=True, **parameters):
    settings = {"max_batch_size": 4, "num_batch_threads": 1, "max_enqueued_batches": 2}
    with ThreadPoolExecutor(1) as executor:
        batcher = Batcher(
            model,
            BatchingParameters(**settings | parameters),
            together,
            executor,
            lambda rows: None,
        )
        try:
            yield batcher
        finally:
            model.gate.set()
            await batcher.close()


def rows(*values):
    return {"x": np.array(values, np.float32)}


def test_everyone_gets_his_own_answer_and_only_the_guilty_fail():
    async def check():
        model = Model()
        async with batcher_of(model, max_enqueued_batches=99) as batcher:
            asked = [rows(n, n + 0.5) if n % 3 else rows(n) for n in range(40)]
            asked[7] = rows(7, -1)
            answers = await asyncio.gather(
                *(batcher.submit(one, 10) for one in asked), return_exceptions=True
            )
        for number, (one, answer) in enumerate(zip(asked, answers, strict=True)):
            if number == 7:
                assert isinstance(answer, ServingError)
                assert answer.code == grpc.StatusCode.INVALID_ARGUMENT
                assert answer.message == "negative"
            else:
                np.testing.assert_array_equal(answer["y"], 2 * one["x"])
        assert max(model.batches) <= 4
        assert len(model.batches) < 30

    asyncio.run(check())


def test_large_requests_are_cut_and_small_ones_can_be_kept_apart():
    async def check():
        model = Model()
        async with batcher_of(model, together=False, max_enqueued_batches=9) as batcher:
            answer, _ = await asyncio.gather(
                batcher.submit(rows(*range(10)), 10), batcher.submit(rows(1), 10)
            )
        np.testing.assert_array_equal(answer["y"], 2 * np.arange(10))
        assert model.batches == [4, 4, 2, 1]

    asyncio.run(check())


def test_a_full_queue_and_a_passed_deadline():
    async def check():
        model = Model()
        model.gate.clear()
        async with batcher_of(model) as batcher:
            computing = asyncio.create_task(batcher.submit(rows(0, 0, 0, 0), 10))
            await asyncio.sleep(0.05)
            with pytest.raises(ServingError, match="no answer within") as late:
                await batcher.submit(rows(1), 0.05)
            assert late.value.code == grpc.StatusCode.DEADLINE_EXCEEDED
            waiting = asyncio.create_task(batcher.submit(rows(*range(7)), 10))
            await asyncio.sleep(0.05)
            with pytest.raises(ServingError, match="queue is full") as busy:
                await batcher.submit(rows(2), 10)
            assert busy.value.code == grpc.StatusCode.UNAVAILABLE
            model.gate.set()
            assert len((await waiting)["y"]) == 7
            assert len((await computing)["y"]) == 4
        assert 1 not in model.batches  # nobody waits for the late one's answer

    asyncio.run(check())
