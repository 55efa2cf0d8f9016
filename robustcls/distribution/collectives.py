"""What workers tell each other between the steps; all of them have to call it together."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from robustcls._validation import InputError
from robustcls.distribution.cluster import difference, short
from robustcls.distribution.replicas import replica_count, worker_count

Result = TypeVar("Result")


def worker_index() -> int:
    """Returns the number of this process among the workers; the chief is 0."""
    if worker_count() == 1:
        return 0
    resolver = tf.distribute.get_strategy().cluster_resolver
    chiefs = len(resolver.cluster_spec().as_dict().get("chief", ()))
    return int(resolver.task_id) + (0 if resolver.task_type == "chief" else chiefs)


def is_chief() -> bool:
    """Returns whether this process is the one that writes; True without several workers."""
    return worker_index() == 0


def from_chief(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns the chief's values of arrays, on every worker.

    Args:
        arrays: of shapes and types that are the same on all workers; floats of up to 32 bits or
            integers.
    """
    arrays = [np.asarray(array) for array in arrays]
    if worker_count() == 1:
        return arrays
    told: list[np.ndarray] = [np.empty(0)] * len(arrays)
    for integer in (False, True):
        chosen = [n for n, array in enumerate(arrays) if (array.dtype.kind in "iub") == integer]
        if not chosen:
            continue
        # In one piece, which is one message.
        kind = np.int64 if integer else np.float32
        whole = np.concatenate([arrays[number].ravel().astype(kind) for number in chosen])
        whole = _sum(whole if is_chief() else np.zeros_like(whole))
        for number in chosen:
            array = arrays[number]
            told[number] = whole[: array.size].reshape(array.shape).astype(array.dtype)
            whole = whole[array.size :]
    return told


def gather_texts(text: str) -> list[str]:
    """Returns what each worker says, in the order of the workers.

    Args:
        text: what this one says.
    """
    workers, own = worker_count(), worker_index()
    if workers == 1:
        return [text]
    said = np.frombuffer(text.encode(), np.uint8)
    sizes = np.zeros(workers, np.int64)
    sizes[own] = len(said)
    sizes = _sum(sizes)
    table = np.zeros((workers, int(sizes.max())), np.int32)
    table[own, : len(said)] = said
    rows = zip(_sum(table), sizes, strict=True)
    return [row[:size].astype(np.uint8).tobytes().decode() for row, size in rows]


def on_chief(action: Callable[[], Result]) -> Result | None:
    """Lets the chief do something, and returns what came of it there; None elsewhere.

    Args:
        action: takes no arguments.

    Raises:
        InputError: the chief's action did, on every worker with the same line.
    """
    return together(action if is_chief() else lambda: None)


def ask_chief(action: Callable[[], Any]) -> Any:
    """Lets the chief do something, and returns on every worker what came of it there.

    Args:
        action: takes no arguments and returns what JSON holds.

    Raises:
        InputError: the chief's action did, on every worker with the same line.
    """
    result = on_chief(action)
    if worker_count() == 1:
        return result
    return json.loads(gather_texts(json.dumps(result))[0])


def together(action: Callable[[], Result]) -> Result:
    """Lets every worker do something of its own, and returns what came of it here.

    Args:
        action: takes no arguments.

    Raises:
        InputError: that of any worker's action, on every worker.
    """
    result: Any = None
    failed = None
    try:
        result = action()
    except InputError as error:
        failed = error
    for worker, text in enumerate(gather_texts("" if failed is None else str(failed))):
        if text and worker == worker_index() and failed is not None:
            raise failed
        if text:
            raise InputError(f"worker {worker} has stopped: {text}")
    return result


def require_same(what: str, value: Any) -> None:
    """Raises `InputError` on every worker when one has another value than the chief.

    Args:
        what: the name of the value in the message.
        value: JSON-serializable.
    """
    chief, *others = map(json.loads, gather_texts(json.dumps(value)))
    for worker, other in enumerate(others, 1):
        found = difference(chief, other, what)
        if found:
            name, here, there = found
            raise InputError(
                f"{name} must be the same on all workers; received {short(repr(here))} on the "
                f"chief and {short(repr(there))} on worker {worker}."
            )


def _sum(array: np.ndarray) -> np.ndarray:
    """Adds up the workers' arrays."""
    integer = array.dtype.kind in "iub"
    value = tf.constant(array.astype(np.int64 if integer else np.float32))
    return _added(value).numpy().astype(array.dtype)


@tf.function(autograph=False, reduce_retracing=True)
def _added(value: tf.Tensor) -> tf.Tensor:
    strategy = tf.distribute.get_strategy()
    own = replica_count() // worker_count()

    def added(value: tf.Tensor) -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        # Only a worker's first replica counts.
        first = tf.cast(context.replica_id_in_sync_group % own == 0, value.dtype)
        return context.all_reduce(tf.distribute.ReduceOp.SUM, first * value)

    return strategy.experimental_local_results(strategy.run(added, args=(value,)))[0]
