"""Dynamic batching: requests that arrive while others are computed are answered together."""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np

from robustcls.serving.errors import REFUSALS, ServingError, from_tensorflow
from robustcls.serving.server.signature import Arrays


@dataclass(frozen=True, kw_only=True)
class BatchingParameters:
    """The numbers of `batching_parameters.txt`.

    Attributes:
        max_batch_size: rows in a batch; a larger request is cut.
        batch_timeout_micros: how long the first request of a batch waits for others.
        max_enqueued_batches: full batches that may wait.
        num_batch_threads: batches computed at the same time.
    """

    max_batch_size: int = 32
    batch_timeout_micros: int = 1000
    max_enqueued_batches: int = 64
    num_batch_threads: int = 2


@dataclass(eq=False)
class _Request:
    inputs: Arrays
    rows: int
    shapes: tuple[tuple[int, ...], ...]
    answer: asyncio.Future[Arrays]
    arrived: float


@dataclass(eq=False)
class Batcher:
    """Collects the requests of one signature and computes them in threads.

    Attributes:
        compute: inputs to outputs, each [N, ...], row by row.
        parameters: sizes and times.
        together: whether requests share a batch.
        executor: where `compute` runs.
        observe: is told the rows of each batch.
    """

    compute: Callable[[Arrays], Arrays]
    parameters: BatchingParameters
    together: bool
    executor: Executor
    observe: Callable[[int], Any]
    _queue: collections.deque[_Request] = field(default_factory=collections.deque)
    _rows: int = 0
    _workers: list[asyncio.Task] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._arrival = asyncio.Event()
        self._full = asyncio.Event()
        self._collecting = asyncio.Lock()
        for _ in range(self.parameters.num_batch_threads):
            self._workers.append(asyncio.create_task(self._work()))

    async def submit(self, inputs: Arrays, timeout: float) -> Arrays:
        """Returns the outputs of checked inputs.

        Raises:
            ServingError: the queue is full, the time ran out, or the graph refused the inputs.
        """
        rows = len(next(iter(inputs.values())))
        limit = self.parameters.max_enqueued_batches * self.parameters.max_batch_size
        if self._rows and self._rows + rows > limit:
            raise ServingError(
                grpc.StatusCode.UNAVAILABLE,
                f"the queue is full: {self._rows} of {limit} rows wait. Try again later.",
            )
        loop = asyncio.get_running_loop()
        shapes = tuple(inputs[name].shape[1:] for name in sorted(inputs))
        request = _Request(inputs, rows, shapes, loop.create_future(), loop.time())
        self._queue.append(request)
        self._rows += rows
        self._arrival.set()
        if self._rows >= self.parameters.max_batch_size:
            self._full.set()
        giving_up = loop.call_later(timeout, _give_up, request.answer, timeout)
        try:
            return await request.answer
        finally:
            giving_up.cancel()

    async def close(self) -> None:
        """Stops; nothing may be waiting any more."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            async with self._collecting:
                requests = await self._collect()
            if not requests:
                continue
            answers = await loop.run_in_executor(self.executor, self._answer, requests)
            for request, answer in zip(requests, answers, strict=True):
                if request.answer.done():
                    continue  # Its time ran out, or its sender went away.
                if isinstance(answer, Exception):
                    request.answer.set_exception(answer)
                else:
                    request.answer.set_result(answer)

    async def _collect(self) -> list[_Request]:
        """Waits for a request, gives others the time to join it, and takes a batch."""
        await self._arrival.wait()
        limit = self.parameters.max_batch_size
        if self.together and self._rows < limit:
            waited = asyncio.get_running_loop().time() - self._queue[0].arrived
            left = self.parameters.batch_timeout_micros / 1e6 - waited
            if left > 0:
                self._full.clear()
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._full.wait(), left)
        taken: list[_Request] = []
        rows = 0
        while self._queue and (not taken or self._fits(self._queue[0], taken[0], limit - rows)):
            request = self._queue.popleft()
            self._rows -= request.rows
            if not request.answer.done():
                taken.append(request)
                rows += request.rows
        if not self._queue:
            self._arrival.clear()
        return taken

    def _fits(self, request: _Request, first: _Request, space: int) -> bool:
        """Images of different sizes, which some models take, cannot share a batch."""
        return self.together and request.rows <= space and request.shapes == first.shapes

    def _answer(self, requests: Sequence[_Request]) -> list[Arrays | Exception]:
        """Computes a batch; if it is refused, each request alone, so only the guilty one fails."""
        try:
            if len(requests) == 1:
                return [self._in_parts(requests[0].inputs)]
            names = requests[0].inputs
            inputs = {
                name: np.concatenate([request.inputs[name] for request in requests])
                for name in names
            }
            outputs = self._in_parts(inputs)
            ends = np.cumsum([request.rows for request in requests])
            return [
                {name: value[end - request.rows : end] for name, value in outputs.items()}
                for request, end in zip(requests, ends, strict=True)
            ]
        except REFUSALS as error:
            if len(requests) == 1:
                return [from_tensorflow(error)]
            return [self._answer([request])[0] for request in requests]
        except Exception as error:
            return [error for _ in requests]

    def _in_parts(self, inputs: Arrays) -> Arrays:
        limit = self.parameters.max_batch_size
        rows = len(next(iter(inputs.values())))
        parts = []
        for start in range(0, rows, limit):
            part = {name: value[start : start + limit] for name, value in inputs.items()}
            self.observe(min(limit, rows - start))
            parts.append(self.compute(part))
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _give_up(answer: asyncio.Future[Arrays], timeout: float) -> None:
    if not answer.done():
        message = f"no answer within {timeout:.3g} s."
        answer.set_exception(ServingError(grpc.StatusCode.DEADLINE_EXCEEDED, message))
