"""What a request can be refused for, in the words of gRPC and HTTP."""

from __future__ import annotations

import re

import grpc
import tensorflow as tf

_HTTP = {
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 413,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


class ServingError(Exception):
    """A request gets no answer, for a reason that its sender is told.

    Args:
        code: gRPC's name of the reason.
        message: one line.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        #: Whether the metrics have it.
        self.counted = False

    @property
    def http_status(self) -> int:
        return _HTTP.get(self.code, 500)


def invalid(message: str) -> ServingError:
    """Returns the error of a request that is wrong in itself."""
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)


def from_http(status: int, message: str) -> ServingError:
    """Returns the error that a REST answer stands for."""
    codes = {number: code for code, number in _HTTP.items()}
    own_fault = 400 <= status < 500
    other = grpc.StatusCode.INVALID_ARGUMENT if own_fault else grpc.StatusCode.UNKNOWN
    return ServingError(codes.get(status, other), message)


def from_tensorflow(error: Exception) -> ServingError:
    """Returns what an error of a graph says, without the places in the graph."""
    if isinstance(error, UnicodeDecodeError):  # TensorFlow quotes the request's bytes.
        return invalid("inputs cannot be read by the model.")
    text = str(error).partition(" [Op:")[0]
    # The reason stands before the place in the graph, and after the trace where there is one.
    before_place = re.search(r"([^\n]+)\n\s*\[\[\{\{", text)
    text = re.sub(r"\{\{.*?\}\}\s*", "", before_place.group(1) if before_place else text)
    asserted = re.match(r"assertion failed: (.*)", text)
    if asserted:
        text = re.sub(r"[\[\]]", "", asserted.group(1))
    return invalid(text.strip()[:500] or type(error).__name__)


#: What a graph raises for inputs that it cannot take.
REFUSALS = (tf.errors.InvalidArgumentError, UnicodeDecodeError, tf.errors.OutOfRangeError)
