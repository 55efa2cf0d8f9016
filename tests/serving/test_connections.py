"""Callers that say half of what they have to say, too much, or nothing: raw bytes on sockets."""

import asyncio
import contextlib
import logging
import socket
import time

import grpc
import pytest
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

from robustcls.serving.exports.configuration import ModelConfig
from robustcls.serving.server.engine import Engine, Limits
from robustcls.serving.server.logs import FewOfAKind
from robustcls.serving.server.run import _listen, rest_server, start_grpc

STATUS = b"GET /v1/models/tiny HTTP/1.1\r\nHost: x\r\n\r\n"
HEADER = b"POST /v1/models/tiny:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
SHORT = {"header_seconds": 0.15, "timeout": 0.15}


@pytest.fixture
def with_server(tmp_path):
    """Runs `test(port, engine)` beside a REST server of one model without a version."""

    def run(test, **limits):
        async def main():
            config = ModelConfig("tiny", tmp_path)
            engine = Engine([config], Limits(**limits), batching=True)
            server = rest_server(engine, "127.0.0.1")
            with contextlib.closing(_listen("127.0.0.1", 0)) as listening:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
                running = asyncio.create_task(server.serve(sockets=[listening]))
                while not server.started:
                    await asyncio.sleep(0.005)
                try:
                    await asyncio.wait_for(test(listening.getsockname()[1], engine), 20)
                finally:
                    server.should_exit = server.force_exit = True
                    await running
            await engine.close()

        asyncio.run(main())

    return run


async def call(port, content):
    """Sends bytes; returns what comes until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(content)
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def is_answered(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(STATUS)
    try:
        return b"200 OK" in await asyncio.wait_for(reader.readline(), 5)
    finally:
        writer.close()


def refusals(engine, code):
    labels = {"model": "unknown", "api": "rest", "code": code}
    return engine.metrics.registry.get_sample_value("robustcls_requests_total", labels) or 0


@pytest.mark.parametrize(
    ("content", "answer", "code"),
    [
        (b"", b"", "DEADLINE_EXCEEDED"),
        (b"GET /v1/models/tiny HTTP/1.1\r\nHo", b"", "DEADLINE_EXCEEDED"),
        (STATUS + b"GET /", b"200 OK", "DEADLINE_EXCEEDED"),
        (HEADER.replace(b"tiny", b"miny") + b"{", b"408 Request Timeout", "INVALID_ARGUMENT"),
        (b"\x16\x03\x01 TLS\r\n\r\n", b"400 Bad Request", "INVALID_ARGUMENT"),
        (b"GET /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"404", "NOT_FOUND"),
    ],
    ids=["nothing", "half a header", "half a second one", "half a body", "no HTTP", "no address"],
)
def test_half_requests_end_and_are_counted(with_server, content, answer, code):
    async def test(port, engine):
        began = time.monotonic()
        assert answer in await call(port, content)
        assert time.monotonic() - began < 3
        assert refusals(engine, code) == 1

    with_server(test, **SHORT)


def test_a_body_that_goes_on_after_its_refusal_ends(with_server):
    """One byte now and then keeps no connection open."""

    async def test(port, engine):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEADER.replace(b": 9", b": 999"))
        assert b"413" in await reader.readline()
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - began < 5 and not reader.at_eof():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.02)
        assert time.monotonic() - began < 2
        writer.close()

    with_server(test, **SHORT, max_bytes=100)


def test_who_does_not_read_the_answers_is_let_go(with_server):
    async def test(port, engine):
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", port))
            deaf.setblocking(False)
            for _ in range(500):
                if refusals(engine, "DEADLINE_EXCEEDED"):
                    break
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    deaf.send(STATUS * 100)
                await asyncio.sleep(0.01)
        assert refusals(engine, "DEADLINE_EXCEEDED") == 1
        assert await is_answered(port)

    with_server(test, **SHORT)


def test_half_open_connections_shut_nobody_out(with_server):
    async def test(port, engine):
        half = [await asyncio.open_connection("127.0.0.1", port) for _ in range(60)]
        for _, writer in half[::2]:
            writer.write(STATUS[:20])
        assert await is_answered(port)
        assert refusals(engine, "UNAVAILABLE") >= 60 + 1 - 8
        for _, writer in half:
            writer.transport.abort()

    with_server(test, max_connections=8)


def test_connections_at_work_are_not_given_up(with_server):
    async def test(port, engine):
        working = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        for _, writer in working:
            writer.write(HEADER)
        await asyncio.sleep(0.1)
        assert await call(port, STATUS) == b""
        assert refusals(engine, "UNAVAILABLE") == 1
        for reader, writer in working:
            writer.write(b"[1,2,3,4]")
            assert b"400" in await reader.readline()
            writer.close()

    with_server(test, max_connections=3)


def test_bytes_in_flight_are_bounded(with_server):
    async def test(port, engine):
        half = HEADER.replace(b": 9", b": 99") + b"[" * 80
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(half)
        await asyncio.sleep(0.05)
        answer = await call(port, half.replace(b"Host", b"Connection: close\r\nHost"))
        assert b"503" in answer.splitlines()[0]
        assert b"at most 100 bytes" in answer
        writer.transport.abort()
        await asyncio.sleep(0.05)
        # What was held is free again.
        whole = HEADER.replace(b": 9", b": 30").replace(b"Host", b"Connection: close\r\nHost")
        whole += b"[" * 30
        assert b"400" in (await call(port, whole)).splitlines()[0]

    with_server(test, max_bytes=100, max_bytes_in_flight=100)


def test_grpc_connections_are_bounded_in_number_and_time(tmp_path):
    """Without a greeting they end, so that they keep nobody out for long."""
    from grpc_health.v1 import health

    async def main():
        engine = Engine(
            [ModelConfig("tiny", tmp_path)],
            Limits(header_seconds=0.5, max_connections=5),
            batching=True,
        )
        server, port = await start_grpc(engine, health.aio.HealthServicer(), "127.0.0.1", 0)
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
        # One more than may be is closed at once.
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        assert time.monotonic() - began < 0.45
        writer.close()
        for reader, writer in silent:
            with contextlib.suppress(ConnectionError):
                await asyncio.wait_for(reader.read(), 5)
            writer.close()
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "tiny"
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = model_service_pb2_grpc.ModelServiceStub(channel)
            assert not (await stub.GetModelStatus(request, timeout=5)).model_version_status
        await server.stop(0)
        await engine.close()

    asyncio.run(main())


def test_the_log_says_few_things_of_a_kind():
    said = []
    log, handler = logging.getLogger("robustcls.test_log"), logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    few = FewOfAKind()
    handler.addFilter(few)
    log.addHandler(handler)

    def refuse(times):
        for number in range(times):
            log.warning("refused %d", number)

    refuse(1000)
    log.warning("another")
    assert said == [*[f"refused {number}" for number in range(10)], "another"]
    few._seen = {kind: (began - 61, count) for kind, (began, count) in few._seen.items()}
    refuse(1)
    assert said[-1] == "refused 0 (990 more like it before)"
