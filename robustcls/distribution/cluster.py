"""The workers that `TF_CONFIG` names, and a meeting of theirs before TensorFlow starts."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robustcls._validation import InputError

_LONGEST_MESSAGE = 1 << 20


@dataclass(frozen=True)
class Cluster:
    """Who takes part in a training.

    Attributes:
        addresses: host and port of every worker, the chief's first.
        index: which of them this process is.
        chiefs: how many of them have the task "chief": 1, or 0 where the first worker is the
            chief (int, default 0).
    """

    addresses: tuple[str, ...]
    index: int
    chiefs: int = 0

    @property
    def jobs(self) -> dict[str, int]:
        """How many chiefs and workers there are."""
        return {"chief": self.chiefs, "worker": len(self.addresses) - self.chiefs}

    @classmethod
    def from_environment(cls) -> Cluster:
        """Reads `TF_CONFIG` as TensorFlow defines it.

        Raises:
            InputError: it is missing, no JSON, or names no such worker as this.
        """
        text = os.environ.get("TF_CONFIG", "")
        if not text:
            raise InputError(
                "TF_CONFIG must name the workers for multi_worker; received none. For example "
                '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, '
                '"task": {"type": "worker", "index": 0}}'
            )
        try:
            config = json.loads(text)
            jobs = {name: list(hosts) for name, hosts in config["cluster"].items()}
            kind, index = str(config["task"]["type"]), config["task"]["index"]
            if isinstance(index, bool | float):
                raise TypeError(f"index {index!r}")
            number = int(index)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise InputError(
                'TF_CONFIG must be JSON with "cluster" and "task", as TensorFlow defines it; '
                f"received {short(text)} ({type(error).__name__}: {error})."
            ) from None
        for name in jobs.keys() - {"chief", "worker"}:
            raise InputError(f"TF_CONFIG must name a chief and workers alone; received {name!r}.")
        if kind not in jobs or not 0 <= number < len(jobs[kind]):
            named = ", ".join(f"{name} 0 to {len(hosts) - 1}" for name, hosts in jobs.items())
            raise InputError(
                f"TF_CONFIG must give this process a task of its cluster, {named}; received "
                f"{kind} {number}."
            )
        if len(jobs.get("chief", ())) > 1:
            raise InputError(f"TF_CONFIG must name one chief; received {len(jobs['chief'])}.")
        addresses = (*jobs.get("chief", ()), *jobs.get("worker", ()))
        for address in addresses:
            _split(address)
        if len(set(addresses)) < len(addresses):
            raise InputError(
                f"TF_CONFIG must give each worker an address of its own; received {addresses}."
            )
        chiefs = len(jobs.get("chief", ()))
        return cls(addresses, number + (chiefs if kind == "worker" else 0), chiefs)

    def meet(self, facts: Mapping[str, Any], *, timeout: float = 60.0) -> None:
        """Waits until every worker is there and has the same facts.

        Each listens on its own address, which TensorFlow needs only afterwards, and calls all the
        others. So an address that does not answer is known in time and by name.

        Args:
            facts: what has to be the same on all workers, JSON-serializable.
            timeout: seconds to wait for the others (float > 0, default 60.0).

        Raises:
            InputError: a worker does not answer in time, or has other facts or another cluster.
        """
        own = json.loads(json.dumps({"addresses": list(self.addresses), **facts}))
        deadline = time.monotonic() + timeout
        others = set(range(len(self.addresses))) - {self.index}
        with _Desk(self, own) as desk:
            answers: dict[int, Any] = {}
            while True:
                for other in sorted(others - answers.keys()):
                    answer = _ask(self.addresses[other], {"index": self.index})
                    if answer is not None:
                        answers[other] = answer
                # Who has heard all of the others may leave: they have its answer, too.
                if answers.keys() == others == desk.heard:
                    break
                if time.monotonic() > deadline:
                    missing = min(others - (answers.keys() & desk.heard))
                    raise InputError(
                        f"TF_CONFIG must name workers that answer; worker {missing} at "
                        f"{self.addresses[missing]} did not within {timeout:g} s."
                    )
                time.sleep(0.05)
        for other in sorted(others):
            _compare(answers[other], own, other)


class _Desk:
    """Answers every worker that calls with this one's facts, and notes who has called."""

    def __init__(self, cluster: Cluster, facts: Mapping[str, Any]) -> None:
        self.heard: set[int] = set()
        self._answer = {"index": cluster.index, "facts": facts}
        self._count = len(cluster.addresses)
        address = cluster.addresses[cluster.index]
        try:
            self._socket = socket.create_server(("", _split(address)[1]), backlog=self._count)
        except OSError as error:
            raise InputError(
                "TF_CONFIG must give this worker a port that is free; "
                f"{address} cannot be listened on ({error.strerror})."
            ) from None

    def __enter__(self) -> _Desk:
        self._open = True
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._open = False
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        self._socket.settimeout(0.1)
        while self._open:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                continue
            with connection:
                try:
                    connection.settimeout(2)
                    index = _read(connection)["index"]
                    _write(connection, self._answer)
                except (OSError, ValueError, KeyError, TypeError):
                    continue
                if index in range(self._count):
                    self.heard.add(index)


def _ask(address: str, question: Mapping[str, Any]) -> Any:
    """Returns what a worker answers, None when it does not."""
    try:
        with socket.create_connection(_split(address), timeout=1) as connection:
            connection.settimeout(2)
            _write(connection, question)
            return _read(connection)
    except (OSError, ValueError):
        return None


def _write(connection: socket.socket, message: Mapping[str, Any]) -> None:
    connection.sendall(json.dumps(message).encode() + b"\n")


def _read(connection: socket.socket) -> Any:
    with connection.makefile("rb") as file:
        return json.loads(file.readline(_LONGEST_MESSAGE))


def _compare(answer: Any, own: Mapping[str, Any], other: int) -> None:
    """Refuses a worker with other facts."""
    if not isinstance(answer, dict) or answer.get("index") != other:
        raise InputError(
            f"TF_CONFIG must be the same on all workers but for the task; worker {other} answers "
            f"as {short(str(answer.get('index') if isinstance(answer, dict) else answer))}."
        )
    found = difference(own, answer.get("facts"))
    if found:
        name, here, there = found
        raise InputError(
            f"{name} must be the same on all workers; received {short(repr(here))} here and "
            f"{short(repr(there))} on worker {other}."
        )


def difference(here: Any, there: Any, name: str = "") -> tuple[str, Any, Any] | None:
    """Returns the first place in which two JSON values differ, and what each has there.

    Args:
        here: the one.
        there: the other.
        name: of both (str, default "").
    """
    if isinstance(here, dict) and isinstance(there, dict):
        for key in sorted(here.keys() | there.keys()):
            found = difference(here.get(key), there.get(key), f"{name}.{key}" if name else key)
            if found:
                return found
        return None
    return None if here == there else (name or "facts", here, there)


def _split(address: Any) -> tuple[str, int]:
    host, _, port = str(address).rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise InputError(f"TF_CONFIG must name workers as host:port; received {address!r}.")
    return host.strip("[]"), int(port)


def short(text: str) -> str:
    """Returns a text of at most 80 letters."""
    return text if len(text) <= 80 else f"{text[:77]}..."
