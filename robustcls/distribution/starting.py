"""From `--distribute` to a strategy, and what a worker says when another one is lost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context

from robustcls._stopping import listen_again
from robustcls._validation import InputError, check_choice
from robustcls.distribution.cluster import Cluster
from robustcls.runs import versions

DISTRIBUTIONS = ("mirrored", "multi_worker")
# Milliseconds.
_SILENCE = 30_000
_LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError)


def start(
    distribute: str | None,
    *,
    devices: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    timeout: float = 60.0,
) -> tf.distribute.Strategy:
    """Returns the strategy to train with.

    Several workers must call it before anything else of TensorFlow. They meet first, and go on
    only when all of them are there, with the same settings and versions.

    Args:
        distribute: "mirrored" for the devices of this machine, "multi_worker" for those of all
            workers that `TF_CONFIG` names, None for one device.
        devices: which of this machine's, such as "GPU:0"; all GPUs, or the CPU, when empty
            (default ()).
        settings: what decides the result, JSON-serializable; must be the same on all workers
            (default None).
        timeout: seconds to wait for other workers (float > 0, default 60.0).

    Raises:
        InputError: a device that is not there, an unusable `TF_CONFIG`, a worker that does not
            answer or has other settings, or TensorFlow is running already.
    """
    if distribute is None:
        if devices:
            raise InputError("devices must come with distribute; received devices alone.")
        return tf.distribute.get_strategy()
    check_choice("distribute", distribute, DISTRIBUTIONS)
    if distribute == "mirrored":
        names = [_named(device) for device in devices]
        _require(names, tf.config.list_logical_devices())
        return tf.distribute.MirroredStrategy(names or None)
    cluster = Cluster.from_environment()
    physical = tf.config.list_physical_devices()
    names = [_named(device) for device in devices]
    _require(names, physical)
    if names:
        gpus = [gpu for gpu in physical if gpu.device_type == "GPU" and _name(gpu) in names]
        tf.config.set_visible_devices(gpus, "GPU")
    gpu_count = len(tf.config.get_visible_devices("GPU"))
    cluster.meet(
        {"settings": settings or {}, "versions": versions(), "GPUs": gpu_count}, timeout=timeout
    )
    try:
        _listen_longer(cluster)
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise InputError(
            "distribute must start before anything else of TensorFlow; received a process in "
            f"which it is running already ({error})."
        ) from None
    listen_again()
    return strategy


@contextlib.contextmanager
def telling_losses(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Turns TensorFlow's error about a lost worker into one line.

    Args:
        strategy: what is trained with.

    Raises:
        InputError: a worker was lost; all have to be started again.
    """
    try:
        yield
    except _LOST as error:
        if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            raise
        raise InputError(
            "all workers must stay until the training ends; one was lost. Start all of them "
            "again, with --resume to go on from the last checkpoint."
        ) from error


def _listen_longer(cluster: Cluster) -> None:
    """Takes a worker for lost after half a minute of silence.

    TensorFlow's own ten seconds are too short for a machine that is busy with something else. It
    keeps what is configured before.
    """
    jobs = [job for job in ("chief", "worker") if cluster.jobs.get(job)]
    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader=f"/job:{jobs[0]}/replica:0/task:0",
        heartbeat_timeout_in_ms=_SILENCE,
        coordinated_jobs=[
            context.coordination_config_pb2.CoordinatedJob(name=job, num_tasks=cluster.jobs[job])
            for job in jobs
        ],
    )


def _require(names: Sequence[str], devices: Sequence[Any]) -> None:
    known = [_name(device) for device in devices]
    if len(set(names)) < len(names):
        raise InputError(f"devices must each be named once; received {', '.join(names)}.")
    for name in names:
        if name not in known:
            raise InputError(f"devices must be among {', '.join(known)}; received {name!r}.")


def _name(device: Any) -> str:
    return ":".join(device.name.split(":")[-2:])


def _named(device: str) -> str:
    return device.strip("/").removeprefix("device:").upper()
