"""What both front ends ask: one request in, its answer out, counted and in time."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import grpc
import numpy as np

from robustcls._settings import PositiveFloat, PositiveInt, check_settings
from robustcls._validation import nearest
from robustcls.serving.errors import ServingError, invalid
from robustcls.serving.exports.configuration import BATCHING, ModelConfig, read_batching
from robustcls.serving.server.batching import Batcher, BatchingParameters
from robustcls.serving.server.loading import LoadedVersion
from robustcls.serving.server.metrics import Metrics
from robustcls.serving.server.registry import Registry, ServedVersion
from robustcls.serving.server.signature import Arrays, Signature


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a request may ask for.

    Attributes:
        timeout: seconds until a request without a deadline of its own is given up (float > 0,
            default 30).
        max_rows: images in a request (int >= 1, default 1024).
        max_bytes: of a request, packed or unpacked (int >= 1, default 2**26).
        max_bytes_in_flight: of all requests that are being read or answered; a single one may
            always have `max_bytes` (int >= 1, default 2**28).
        header_seconds: until the header of a REST request, or gRPC's greeting, must be there
            (float > 0, default 10).
        max_connections: open at the same time, of REST and of gRPC each (int >= 1, default 256).
    """

    timeout: PositiveFloat = 30
    max_rows: PositiveInt = 1024
    max_bytes: PositiveInt = 64 << 20
    max_bytes_in_flight: PositiveInt = 256 << 20
    header_seconds: PositiveFloat = 10
    max_connections: PositiveInt = 256

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class Target:
    """Which model a request is for: its newest version unless a version or label is named."""

    model: str
    version: int | None = None
    label: str | None = None


class Engine:
    """Answers requests.

    Args:
        configs: the models.
        limits: of requests.
        batching: whether requests share batches.
        read: reads `configs` again; see `Registry`.
    """

    def __init__(
        self,
        configs: list[ModelConfig],
        limits: Limits,
        *,
        batching: bool,
        read: Callable[[], list[ModelConfig]] | None = None,
    ) -> None:
        self.limits = limits
        self.metrics = Metrics()
        self._bytes_in_flight = 0
        self._batching = batching
        self._parameters = {config.name: _parameters(config) for config in configs}
        threads = max(entry.num_batch_threads for entry in self._parameters.values())
        self._executor = ThreadPoolExecutor(threads, "batch")
        self.registry = Registry(configs, self._make_batcher, self.metrics, read)

    async def predict(
        self,
        target: Target,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        *,
        api: str,
        timeout: float | None = None,
        classify: bool = False,
    ) -> tuple[Arrays, int]:
        """Returns the outputs and the version that gave them.

        Args:
            target: the model.
            signature: its name; empty for the default.
            inputs: arrays [N, ...] by name, unchecked.
            api: grpc or rest, for the metrics.
            timeout: seconds left to the sender, if it said so.
            classify: the request came through the Classify call.

        Raises:
            ServingError: see `Signature.check`, `Registry.lease` and `Batcher.submit`.
        """
        started, code = time.perf_counter(), "OK"
        name = target.model if target.model in self.registry.models else "unknown"
        try:
            with self.registry.lease(target.model, target.version, target.label) as served:
                chosen = find_signature(served, signature, classify=classify)
                checked = chosen.check(inputs, self.limits.max_rows)
                batcher = self.registry.batcher(target.model, served, chosen.name)
                left = self.limits.timeout if timeout is None else timeout
                return await batcher.submit(checked, min(left, self.limits.timeout)), served.number
        except ServingError as error:
            code, error.counted = error.code.name, True
            raise
        except BaseException as error:
            code = "CANCELLED" if not isinstance(error, Exception) else "INTERNAL"
            raise
        finally:
            self.metrics.requests.labels(name, api, code).inc()
            self.metrics.seconds.labels(name, api).observe(time.perf_counter() - started)

    @contextlib.contextmanager
    def holding(self) -> Iterator[Callable[[int], None]]:
        """Yields what is told of the bytes of one request as they come; they count till the end.

        Raises:
            ServingError: from what is yielded, when all requests hold too many.
        """
        held = 0

        def take(size: int) -> None:
            nonlocal held
            limit = max(self.limits.max_bytes_in_flight, self.limits.max_bytes)
            if self._bytes_in_flight + size > limit:
                raise ServingError(
                    grpc.StatusCode.UNAVAILABLE,
                    f"requests under way must have at most {limit} bytes. Try again later.",
                )
            held += size
            self._bytes_in_flight += size

        try:
            yield take
        finally:
            self._bytes_in_flight -= held

    def count_refusal(self, model: str, api: str, error: ServingError) -> None:
        """Counts a request that was refused before it came to `predict`.

        Args:
            model: its name in the request, whatever follows after / or :.
            api: grpc or rest.
            error: the reason.
        """
        name = re.split("[/:]", model, maxsplit=1)[0]
        name = name if name in self.registry.models else "unknown"
        if not error.counted:
            self.metrics.requests.labels(name, api, error.code.name).inc()

    async def close(self) -> None:
        """Unloads everything."""
        await self.registry.close()
        self._executor.shutdown(wait=True)

    def _make_batcher(self, model: str, loaded: LoadedVersion, signature: str) -> Batcher:
        return Batcher(
            compute=loaded.signatures[signature].run,
            parameters=self._parameters[model],
            together=self._batching,
            executor=self._executor,
            observe=partial(_observe, self.metrics, model),
        )


def find_signature(served: ServedVersion, name: str, *, classify: bool = False) -> Signature:
    """Returns a signature by name; the empty name is the default.

    Raises:
        ServingError: there is none, or it is for the other call.
    """
    known = served.loaded.signatures
    name = name or "serving_default"
    if name not in known:
        code = grpc.StatusCode.INVALID_ARGUMENT if classify else grpc.StatusCode.FAILED_PRECONDITION
        raise ServingError(
            code,
            f"signature_name must be one of {', '.join(sorted(known))}; "
            f"received {name[:100]!r}.{nearest(name, known)}",
        )
    if classify and not known[name].is_classify:
        some = ", ".join(sorted(one for one in known if known[one].is_classify)) or "none there is"
        raise invalid(
            f"signature_name must be one for the Classify call ({some}); received {name}."
        )
    return known[name]


def _parameters(config: ModelConfig) -> BatchingParameters:
    path = config.folder / BATCHING
    return BatchingParameters(**read_batching(path)) if path.is_file() else BatchingParameters()


def _observe(metrics: Metrics, model: str, rows: int) -> None:
    metrics.rows.labels(model).observe(rows)
