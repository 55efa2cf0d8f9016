"""The body of a REST request: bounded, unpacked, and there in time."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable

import grpc
from starlette.requests import Request

from robustcls.serving.errors import ServingError, invalid
from robustcls.serving.server.engine import Limits

# zlib's words for the headers that it takes.
_PACKED = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


class SlowBodyError(Exception):
    """The body was not there in time."""


async def read_body(request: Request, limits: Limits, take: Callable[[int], None]) -> bytes:
    """Returns the body, unpacked where its Content-Encoding is gzip or deflate.

    Args:
        request: whose body it is.
        limits: `max_bytes`, packed or unpacked, and `timeout`.
        take: is told of bytes as they come; may refuse them.

    Raises:
        SlowBodyError: it is not whole within `timeout`.
        ServingError: it is too large, or not packed as it says.
    """
    limit = limits.max_bytes
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    try:
        body = await asyncio.wait_for(_received(request, limit, take), limits.timeout)
    except asyncio.TimeoutError:
        raise SlowBodyError from None
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding in _PACKED:
        body = await asyncio.to_thread(_unpacked, body, encoding, limit)
        take(len(body))
    if len(body) > limit:
        raise _too_large(limit)
    return body


async def _received(request: Request, limit: int, take: Callable[[int], None]) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        take(len(part))
        parts.append(part)
        size += len(part)
        if size > limit:
            raise _too_large(limit)
    return b"".join(parts)


def _unpacked(body: bytes, encoding: str, limit: int) -> bytes:
    """Unpacks a body, and no further than one byte above the limit."""
    unpack = zlib.decompressobj(_PACKED[encoding])
    try:
        found = unpack.decompress(body, limit + 1)
    except zlib.error as error:
        raise invalid(f"body must be {encoding}, as its Content-Encoding says; {error}.") from None
    if len(found) <= limit and not unpack.eof:
        raise invalid(f"body must be {encoding}, as its Content-Encoding says; it is cut off.")
    return found


def _too_large(limit: int) -> ServingError:
    return ServingError(
        grpc.StatusCode.RESOURCE_EXHAUSTED, f"body must be at most {limit} bytes; it is larger."
    )
