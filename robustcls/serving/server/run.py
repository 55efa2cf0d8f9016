"""`serve`: both front ends in one process, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import signal
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import uvicorn
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from robustcls._settings import Port, PositiveFloat, checked
from robustcls._validation import InputError
from robustcls.serving.exports.configuration import find_models
from robustcls.serving.server.connections import connection_class
from robustcls.serving.server.engine import Engine, Limits
from robustcls.serving.server.grpc_api import SERVICES, add_services
from robustcls.serving.server.logs import LOG
from robustcls.serving.server.open_inference.grpc_calls import SERVICE, add_open_inference
from robustcls.serving.server.rest_api import make_app

#: Seconds that requests have to end in when the server is told to stop.
GRACE = 10
#: Seconds in which it says that it is stopping and still takes requests that are on their way.
LAME_DUCK = 1
#: Seconds that a connection may stay open between two requests.
IDLE = 75
#: gRPC calls under way.
MAX_CALLS = 1024


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
        engine = Engine(
            configs, limits or Limits(), batching=batching, read=partial(find_models, folder)
        )
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
    server, grpc_port = await start_grpc(engine, healthy, host, grpc_port)
    rest = rest_server(engine, host)
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


def rest_server(engine: Engine, host: str) -> uvicorn.Server:
    """Returns the server of REST and the page, to be run on a socket.

    Args:
        engine: answers.
        host: the address that it listens on.
    """
    config = uvicorn.Config(
        make_app(engine, loopback=_is_loopback(host)),
        http=connection_class(engine.limits, partial(engine.count_refusal, "", "rest")),
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="off",
        # Clients keep connections open between requests.
        timeout_keep_alive=IDLE,
        timeout_graceful_shutdown=GRACE,
    )
    return _RestServer(config)


async def start_grpc(
    engine: Engine, healthy: Any, host: str, port: int
) -> tuple[grpc.aio.Server, int]:
    """Starts gRPC on a port, a free one for 0, and returns the server and the port.

    Raises:
        InputError: the address is in use.
    """
    limits = engine.limits
    options = [
        ("grpc.so_reuseport", 0),  # Two servers would share a port in silence.
        ("grpc.max_receive_message_length", limits.max_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_allowed_incoming_connections", limits.max_connections),
        ("grpc.server_handshake_timeout_ms", int(1000 * limits.header_seconds)),
        ("grpc.max_connection_idle_ms", 1000 * IDLE),
    ]
    server = grpc.aio.server(options=options, maximum_concurrent_rpcs=MAX_CALLS)
    add_services(server, engine)
    add_open_inference(server, engine)
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    for service in ("", *SERVICES, SERVICE):
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
