"""gRPC calls whose requests are parsed here, so that what cannot be parsed gets a reason, too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from robustcls.serving.errors import ServingError, invalid
from robustcls.serving.server.engine import Engine
from robustcls.serving.server.logs import LOG


@dataclass(frozen=True)
class Call:
    """One call of a service.

    Attributes:
        request: the class of its requests.
        answer: a request and its context to the answer.
        model: a request to the name of the model that it is for.
    """

    request: Any
    answer: Callable[[Any, Any], Awaitable[Any]]
    model: Callable[[Any], str]


def add_service(
    server: grpc.aio.Server, engine: Engine, name: str, calls: Mapping[str, Call]
) -> None:
    """Adds a service to a server.

    Args:
        server: of gRPC, not yet started.
        engine: counts refusals and bytes.
        name: of the service, with its package.
        calls: by name.
    """
    handlers = {
        method: grpc.unary_unary_rpc_method_handler(_answering(engine, call))
        for method, call in calls.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))


def seconds_left(context: Any) -> float | None:
    """Returns how long the sender will wait, None where it does not say."""
    left = context.time_remaining()
    return None if left is None else max(left, 0)


def _answering(engine: Engine, call: Call) -> Callable[[bytes, Any], Awaitable[bytes]]:
    async def answer(content: bytes, context: Any) -> bytes:
        """Turns a refusal into gRPC's status, and a bug into INTERNAL and a line in the log."""
        model = ""
        try:
            with engine.holding() as take:
                take(len(content))
                request = _parsed(call.request, content)
                model = call.model(request)
                answer = await call.answer(request, context)
                return bytes(answer.SerializeToString())
        except ServingError as error:
            engine.count_refusal(model, "grpc", error)
            code, message = error.code, error.message
        except Exception:
            LOG.exception("a request failed")
            code, message = grpc.StatusCode.INTERNAL, "internal error; see the server's log."
        await context.abort(code, message)
        raise AssertionError("abort raises")

    return answer


def _parsed(kind: Any, content: bytes) -> Any:
    try:
        return kind.FromString(content)
    except DecodeError:
        name = kind.DESCRIPTOR.full_name
        raise invalid(f"request must be a {name}; its bytes are none.") from None
