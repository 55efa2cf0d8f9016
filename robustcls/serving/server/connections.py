"""HTTP connections that are bounded in number and in time, so that none can keep others out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

import grpc
import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from robustcls.serving.errors import ServingError
from robustcls.serving.server.engine import Limits


def connection_class(limits: Limits, refused: Callable[[ServingError], None]) -> type:
    """Returns the protocol class of a server's connections.

    Args:
        limits: `max_connections`, `header_seconds` and, for those who do not read their answers,
            `timeout`.
        refused: is told of each connection that is closed for its own fault or for lack of room.
    """
    return type("Connection", (_Connection,), {"limits": limits, "refused": staticmethod(refused)})


class _Connection(H11Protocol):
    """uvicorn's protocol, which waits for ever for the rest of a header.

    A request's header must arrive within `header_seconds`, counted from its first byte, or from
    the beginning of the connection. When there are as many connections as may be, the one that has
    waited longest without a request of its own gives way to a new one.
    """

    limits: ClassVar[Limits]
    refused: ClassVar[Callable[[ServingError], None]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waiting_since = 0.0
        self._header_timer: asyncio.TimerHandle | None = None
        self._answer_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._waiting_since = self.loop.time()
        if len(self.connections) >= self.limits.max_connections and not self._make_room():
            self.transport = transport
            self._count("UNAVAILABLE", "every connection is at work. Try again later.")
            transport.abort()
            return
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._header_timer, self._answer_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        self._waiting_since = self.loop.time()
        super().on_response_complete()
        self._watch()

    def send_400_response(self, msg: str) -> None:
        self._count("INVALID_ARGUMENT", msg)
        super().send_400_response(msg)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._answer_timer = self.loop.call_later(self.limits.timeout, self._give_up, "answer")

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._answer_timer is not None:
            self._answer_timer.cancel()

    def timeout_keep_alive_handler(self) -> None:
        # `close` would wait for a reader of the last answer.
        self.transport.abort()

    @property
    def _is_waiting(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def _watch(self) -> None:
        """Sets the timer while a request has begun and its header, or unread body, is not whole."""
        begun = self._is_waiting and (
            self.cycle is None
            or bool(self.conn.trailing_data[0])
            or self.conn.their_state is h11.SEND_BODY
        )
        if begun and self._header_timer is None:
            seconds = self.limits.header_seconds
            self._header_timer = self.loop.call_later(seconds, self._give_up, "request")
        elif not begun and self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _give_up(self, what: str) -> None:
        self._count("DEADLINE_EXCEEDED", f"{what} must go through in time; it did not.")
        self.transport.abort()

    def _make_room(self) -> bool:
        ours = [one for one in self.connections if isinstance(one, _Connection)]
        waiting = [one for one in ours if one._is_waiting]
        if not waiting:
            return False
        oldest = min(waiting, key=lambda one: one._waiting_since)
        oldest._count("UNAVAILABLE", "others need the connection.")
        self.connections.discard(oldest)
        oldest.transport.abort()
        return True

    def _count(self, code: str, message: str) -> None:
        type(self).refused(ServingError(grpc.StatusCode[code], message))
