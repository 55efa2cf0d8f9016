"""What workers tell each other with the logs of a step: who waited how long, and who has to end."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from robustcls._stopping import told
from robustcls.distribution.collectives import worker_index
from robustcls.distribution.fitting import Step
from robustcls.distribution.replicas import worker_count


@dataclass(frozen=True)
class Told:
    """What is known of the last step, the same on all workers but for `seconds`.

    Attributes:
        ending: some worker was told to end.
        seconds: of the step on this one, with what was done since the step before.
        waits: seconds that each worker spent in exchanges with the others, its own part of the
            exchange and the wait for slower ones.
        exchanged: bytes that each worker gave into them.
    """

    ending: bool
    seconds: float
    waits: np.ndarray
    exchanged: int


def told_together(model: Any) -> int | None:
    """Returns the signal that some worker was told to end by, on all of them after the same step.

    Args:
        model: that trains. Of several workers it has the mix-in `MultiWorker`.
    """
    if worker_count() == 1:
        return told()
    last = getattr(model, "told", None)
    # The other worker's signal is not known; 15 is SIGTERM.
    return (told() or 15) if last is not None and last.ending else None


def telling(
    step_function: Step, make: Callable[[Step], Callable[[Any], Any]], model: Any
) -> Callable[[Any], dict[str, np.ndarray]]:
    """Returns a function of one step on an iterator, that leaves a `Told` in `model.told`.

    Logs, waits and the wish to end go as one vector, whose mean over all replicas comes back.

    Args:
        step_function: a `train_step` or `test_step`.
        make: Keras' own `_make_function`.
        model: whose step it is; made in the scope of a strategy of several workers.
    """
    workers, own = worker_count(), worker_index()
    strategy = tf.distribute.get_strategy()
    ending = tf.Variable(
        0.0,
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
    )
    clock = _Clock()
    names: list[str] = []

    def step(data: Any) -> tf.Tensor:
        found = clock.begin()
        logs = step_function(data)
        names[:] = logs
        # The mean over the replicas of a number that the others leave 0.
        waits = tf.one_hot(own, workers) * workers * tf.add_n([tf.constant(0.0), *found])
        values = [tf.cast(value, tf.float32) for value in logs.values()]
        return tf.concat([tf.stack([*values, ending]), waits], 0)[None]

    function = make(step)
    last = time.perf_counter()

    def run(iterator: Any) -> dict[str, np.ndarray]:
        nonlocal last
        if told() is not None:
            for part in strategy.experimental_local_results(ending):
                part.assign(1.0)
        # XLA has no clock.
        with contextlib.nullcontext() if model.jit_compile else clock.watching():
            vector = function(iterator).numpy()
        now = time.perf_counter()
        values, wish, waits = np.split(vector, [len(names), len(names) + 1])
        model.told = Told(bool(wish[0] > 0), now - last, waits, clock.exchanged)
        last = now
        return dict(zip(names, values, strict=True))

    return run


@dataclass
class _Clock:
    """Times the exchanges of a step, in whose graph it writes while the step is traced."""

    exchanged: int = 0
    _open: dict[int, tuple[Any, list[tf.Tensor]]] = field(default_factory=dict)

    def begin(self) -> list[tf.Tensor]:
        """Begins a replica's step anew; its exchanges' seconds will be in the list."""
        self.exchanged = 0
        found: list[tf.Tensor] = []
        # Each replica is traced in a thread of its own.
        self._open[threading.get_ident()] = tf.compat.v1.get_default_graph(), found
        return found

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Sees the exchanges of what is traced in the block."""
        kind = tf.distribute.ReplicaContext
        original = kind.all_reduce

        def all_reduce(context: Any, reduce_op: Any, value: Any, options: Any = None) -> Any:
            graph, found = self._open.get(threading.get_ident(), (None, []))
            if graph is not tf.compat.v1.get_default_graph():  # within a loop, say
                return original(context, reduce_op, value, options)
            tensors = tf.nest.flatten(value, expand_composites=True)
            with tf.control_dependencies(tensors):
                before = tf.timestamp()
            with tf.control_dependencies([before]):
                result = original(context, reduce_op, value, options)
            with tf.control_dependencies(tf.nest.flatten(result, expand_composites=True)):
                found.append(tf.cast(tf.timestamp() - before, tf.float32))
            self.exchanged += sum(
                math.prod(size or 1 for size in tensor.shape) * tensor.dtype.size
                for tensor in tensors
            )
            return result

        kind.all_reduce = all_reduce
        try:
            yield
        finally:
            kind.all_reduce = original
