"""`Client`: asks a server, TensorFlow Serving or the local one, for answers as NumPy arrays."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import grpc
import numpy as np

from robustcls._settings import PositiveFloat, PositiveInt, checked
from robustcls._validation import InputError
from robustcls.serving.clients.transports import GrpcTransport, RestTransport
from robustcls.serving.errors import ServingError

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0

Value = TypeVar("Value")


class Client:
    """Talks to one model of a server. Busy or unreachable servers are asked again until a deadline.

    Args:
        address: `host:port` for gRPC, `http://host:port` for REST (str, default "127.0.0.1:8500").
        model: the model's name.
        version: its version; None is the newest (int >= 1 or None, default None).
        timeout: seconds that a call may take with all its repetitions (float > 0, default 30.0).

    Raises:
        InputError: an unusable setting.

    Example:
        >>> with Client("127.0.0.1:8500", model="quickstart") as client:
        ...     client.predict(images)["probabilities"].shape
        (2, 10)
    """

    @checked
    def __init__(
        self,
        address: str = "127.0.0.1:8500",
        *,
        model: str,
        version: PositiveInt | None = None,
        timeout: PositiveFloat = 30.0,
    ) -> None:
        if not model:
            raise InputError("model must be the name of a model; received ''.")
        self._timeout = timeout
        self._transport: GrpcTransport | RestTransport
        if address.startswith(("http://", "https://")):
            self._transport = RestTransport(address.rstrip("/"), model, version)
        else:
            self._transport = GrpcTransport(address, model, version)

    def predict(self, images: Any) -> dict[str, np.ndarray]:
        """Returns the outputs of `serving_default` for float32 images [N, H, W, C] in [0, 1].

        Args:
            images: float32 [N, H, W, C] in [0, 1]; others are cast.

        Raises:
            ServingError: the server refused, or gave no answer in time.
        """
        return self.call("serving_default", images=np.asarray(images, np.float32))

    def predict_files(self, paths: Sequence[Path | str]) -> dict[str, np.ndarray]:
        """Returns the outputs of `serving_bytes` for JPEG or PNG files.

        Args:
            paths: the files, one an image.

        Raises:
            InputError: a file cannot be read.
            ServingError: the server refused, or gave no answer in time.
        """
        contents = np.empty(len(paths), object)
        for place, path in enumerate(paths):
            try:
                contents[place] = Path(path).read_bytes()
            except OSError as error:
                raise InputError(f"{path} cannot be read: {error.strerror}.") from None
        return self.call("serving_bytes", image_bytes=contents)

    def call(self, signature: str, **inputs: Any) -> dict[str, np.ndarray]:
        """Returns the outputs of any signature, arrays [N, ...] by name.

        Args:
            signature: its name.
            **inputs: arrays [N, ...] by name, of the signature's types; bytes for strings.

        Raises:
            ServingError: the server refused, or gave no answer in time.
        """
        arrays = {
            name: np.asarray(value, object if _is_text(value) else None)
            for name, value in inputs.items()
        }
        return self._repeated(lambda left: self._transport.call(signature, arrays, left))

    def status(self) -> dict[int, str]:
        """Returns the state of each version, for example `{1: "AVAILABLE"}`."""
        return self._repeated(self._transport.status)

    def close(self) -> None:
        """Closes the connection."""
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _repeated(self, ask: Callable[[float], Value]) -> Value:
        deadline = time.monotonic() + self._timeout
        pause = _FIRST_PAUSE
        while True:
            try:
                return ask(deadline - time.monotonic())
            except ServingError as error:
                if error.code != grpc.StatusCode.UNAVAILABLE:
                    raise
                if time.monotonic() + pause >= deadline:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


def _is_text(value: Any) -> bool:
    first = value
    while isinstance(first, list | tuple) and first:
        first = first[0]
    return isinstance(first, bytes | str)
