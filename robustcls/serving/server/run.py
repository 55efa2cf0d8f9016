"""`serve`: both front ends in one process, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import logging
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import uvicorn
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from robustcls._settings import Port, PositiveFloat, checked
from robustcls._validation import InputError
from robustcls.serving.exports.configuration import find_models
from robustcls.serving.server.engine import Engine, Limits
from robustcls.serving.server.grpc_api import ModelService, PredictionService
from robustcls.serving.server.registry import LOG
from robustcls.serving.server.rest_api import make_app

#: Seconds that requests have to end in when the server is told to stop.
GRACE = 10
#: Seconds in which it says that it is stopping and still takes requests that are on their way.
LAME_DUCK = 1


@checked
def serve(
    folder: Path | str,
    *,
    host: str = "127.0.0.1",
    rest_port: Port = 8501,
    grpc_port: Port = 8500,
    batching: bool = True,
    poll_seconds: PositiveFloat = 1.0,
    limits: Limits | None = None,
) -> None:
    """Serves the models in a folder until SIGINT or SIGTERM; then answers what is under way.

    Args:
        folder: an export, or a folder of exports.
        host: address to listen on (str, default "127.0.0.1").
        rest_port: of REST and the page; 0 chooses a free one, which is printed (int in [0, 65535],
            default 8501).
        grpc_port: of gRPC; 0 chooses a free one, which is printed (int in [0, 65535],
            default 8500).
        batching: whether requests share batches (bool, default True).
        poll_seconds: how often to look for new versions (float > 0, default 1.0).
        limits: of requests (default None).

    Raises:
        InputError: no export, none that can be loaded, or an address in use.
    """
    configs = find_models(folder)
    with contextlib.closing(_listen(host, rest_port)) as rest_socket:
        if grpc_port:  # gRPC names the reason only in its log.
            _listen(host, grpc_port).close()
        engine = Engine(configs, limits or Limits(), batching=batching)
        asyncio.run(_run(engine, rest_socket, host, grpc_port, poll_seconds))


async def _run(
    engine: Engine,
    rest_socket: socket.socket,
    host: str,
    grpc_port: Port,
    poll_seconds: PositiveFloat,
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    # What the imports left behind stays; looking through it again would stop all requests.
    gc.collect()
    gc.freeze()
    await engine.registry.scan()
    _check_any(engine)
    healthy = health.aio.HealthServicer()
    server, grpc_port = await _start_grpc(engine, healthy, host, grpc_port)
    rest = _RestServer(
        uvicorn.Config(
            make_app(engine, loopback=_is_loopback(host)),
            log_level="warning",
            access_log=False,
            lifespan="off",
            # Clients keep connections open between requests.
            timeout_keep_alive=75,
            timeout_graceful_shutdown=GRACE,
        )
    )
    serving = asyncio.create_task(rest.serve(sockets=[rest_socket]))
    watching = asyncio.create_task(engine.registry.watch(poll_seconds))
    name = f"[{host}]" if ":" in host else host
    print(f"REST and page http://{name}:{rest_socket.getsockname()[1]}/", flush=True)
    print(f"gRPC          {name}:{grpc_port}", flush=True)
    await stop.wait()
    LOG.info("stopping")
    watching.cancel()
    await healthy.enter_graceful_shutdown()
    await asyncio.sleep(LAME_DUCK)
    rest.should_exit = True
    await asyncio.gather(server.stop(GRACE), serving)
    await engine.close()


async def _start_grpc(
    engine: Engine, healthy: Any, host: str, port: int
) -> tuple[grpc.aio.Server, int]:
    options = [
        ("grpc.so_reuseport", 0),  # Two servers would share a port in silence.
        ("grpc.max_receive_message_length", engine.limits.max_bytes),
        ("grpc.max_send_message_length", -1),
    ]
    server = grpc.aio.server(options=options)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        PredictionService(engine), server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(engine), server)
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    for service in ("", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"):
        await healthy.set(service, health_pb2.HealthCheckResponse.SERVING)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError:
        raise InputError(f"grpc_port must be free; {address} cannot be listened on.") from None
    await server.start()
    return server, bound


class _RestServer(uvicorn.Server):
    """Leaves the signals to this module, which stops gRPC too."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host.lower() == "localhost"


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=512)
        # asyncio does not ask for it here; without it an answer's body waits 40 ms for the
        # acknowledgement of its headers.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        raise InputError(
            f"host and port must be free to listen on; {host}:{port}: {error.strerror}."
        ) from None
    return listening


def _check_any(engine: Engine) -> None:
    for name, model in engine.registry.models.items():
        if not model.versions:
            reasons = [message for _, message in model.failed.values()]
            if len(engine.registry.models) == 1:
                raise InputError(reasons[0] if reasons else f"{name} has no version to serve.")
            LOG.error("%s has no version to serve", name)
    if not any(model.versions for model in engine.registry.models.values()):
        raise InputError(
            "folder must hold a version that can be loaded; the log says why none can."
        )


def log_to_stderr() -> None:
    """Shows what the server logs, with the time."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
