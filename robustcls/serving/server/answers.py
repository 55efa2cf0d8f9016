"""What the REST interfaces answer with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.responses import Response

from robustcls.serving.errors import ServingError, from_http
from robustcls.serving.server.bodies import SlowBodyError
from robustcls.serving.server.engine import Engine

# JSON above this is read and written in a thread, so that other requests go on.
_LARGE = 1 << 15

Value = TypeVar("Value")


def json_answer(body: Any, code: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Returns an answer of JSON: of a value, or of bytes or text that are JSON already."""
    text = body if isinstance(body, bytes | str) else json.dumps(body)
    return Response(text, code, headers=headers, media_type="application/json")


def refused(
    engine: Engine, path: str, code: int, message: str, headers: dict[str, str] | None = None
) -> Response:
    """Returns an error's answer, and counts it.

    Args:
        engine: counts.
        path: begins with the model's name, if with any.
        code: of HTTP.
        message: one line.
        headers: further ones.
    """
    engine.count_refusal(path, "rest", from_http(code, message))
    return json_answer({"error": message}, code, headers)


async def or_refused(engine: Engine, path: str, answer: Awaitable[Response]) -> Response:
    """Returns an answer, or that of the error that it ends with.

    Args:
        engine: counts.
        path: begins with the model's name, if with any.
        answer: is awaited.
    """
    try:
        return await answer
    except ServingError as error:
        engine.count_refusal(path, "rest", error)
        return json_answer({"error": error.message}, error.http_status)
    except SlowBodyError:
        message = f"body must be whole within {engine.limits.timeout:.3g} s; it was not."
        return refused(engine, path, 408, message, {"Connection": "close"})
    except ClientDisconnect:
        return Response(status_code=400)


async def in_turn(function: Callable[[], Value], size: int) -> Value:
    """Returns what a function returns, from a thread where there is much to do."""
    return function() if size < _LARGE else await asyncio.to_thread(function)
