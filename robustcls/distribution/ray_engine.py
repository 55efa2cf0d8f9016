"""Work on Ray: actors that hold the models take a piece each, until none is left."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from robustcls._validation import InputError
from robustcls.distribution.cluster import difference, short
from robustcls.distribution.ray_cluster import connected
from robustcls.distribution.work import Piece, Work

# Ends of an actor at one piece, after which it is the piece's fault.
_TRIES = 3
# Seconds that a cluster may need to start the first actor.
_PATIENCE = 300.0


def measure_on_ray(
    work: Work,
    open_work: Callable[[], Work],
    *,
    address: str | None = None,
    actors: int | None = None,
    threads: int = 1,
    tell: Callable[[str], None] = print,
) -> None:
    """Does all pieces of some work on Ray, and keeps their results here.

    Each actor opens the work for itself, so that models and images have to be within its reach,
    under the same paths. A piece whose actor is lost is done again by another one. The longest
    pieces come first, so that no actor is left alone with one at the end.

    Args:
        work: what to do; results that are there already are not measured again.
        open_work: returns the same work in an actor's process; can be pickled.
        address: of a cluster, host:port, or `auto` for the one on this machine; None starts one
            for as long as the work lasts (str or None, default None).
        actors: how many, None for as many as the cluster has room for (int >= 1 or None, default
            None).
        threads: of each actor, in TensorFlow; as many CPUs are asked of Ray (int >= 1, default 1).
        tell: is given a line for each piece that is done (default `print`).

    Raises:
        InputError: Ray is not installed, no cluster answers or has room, the models or images are
            others or not to be had in an actor, or a piece has ended its actor three times.
    """
    todo = [number for number, piece in enumerate(work.pieces) if not work.holds(piece)]
    if not todo:
        return
    with connected(address, (actors or os.cpu_count() or 1) * threads):
        _Crew(work, open_work, actors, threads, tell).finish(todo)


class _Worker:
    """What runs in an actor's process."""

    def __init__(self, open_work: Callable[[], Work], threads: int) -> None:
        # As the environment says it, because it is read when TensorFlow starts in the process.
        os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = str(threads)
        self._open = open_work
        self._work: Work | None = None

    def ready(self) -> str:
        """Answers when the process is up; returns the machine's name."""
        return socket.gethostname()

    def measure(self, number: int, title: str, depends_on: dict[str, Any]) -> dict[str, Any]:
        """Does a piece; returns its `result`, or the line of an `error`."""
        start = time.monotonic()
        try:
            if self._work is None:
                self._work = self._open()
            piece = self._work.pieces[number]
            found = difference({"title": title} | depends_on, _facts(piece))
            if found:
                raise InputError(
                    f"{found[0]} must be the same everywhere; received {short(repr(found[1]))} "
                    f"here and {short(repr(found[2]))} on {socket.gethostname()}."
                )
            with tempfile.TemporaryDirectory(prefix="robustcls-") as state:
                result = piece.measure(Path(state))
        except InputError as error:
            return {"error": str(error)}
        return {"result": result, "seconds": time.monotonic() - start}


class _Crew:
    """The actors and what each is at."""

    def __init__(
        self,
        work: Work,
        open_work: Callable[[], Work],
        actors: int | None,
        threads: int,
        tell: Callable[[str], None],
    ) -> None:
        import ray

        self._ray, self._work, self._open, self._tell = ray, work, open_work, tell
        self._threads, self._wanted = threads, actors
        gpus = ray.cluster_resources().get("GPU", 0)
        self._actor: Any = ray.remote(num_cpus=threads, num_gpus=1 if gpus else 0)(_Worker)
        self._room = int(gpus or ray.cluster_resources().get("CPU", 0) // threads)
        self._starting: dict[Any, Any] = {}
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, int]] = {}
        self._ended: dict[int, int] = {}

    def finish(self, todo: list[int]) -> None:
        pieces = self._work.pieces
        first = {piece.group: n for n, piece in reversed(list(enumerate(pieces)))}
        queue = sorted(todo, key=lambda n: n - first[pieces[n].group])
        count = self._wanted or self._room
        if not self._room:
            raise InputError(
                f"threads must be at most the CPUs of a machine of the cluster, which has "
                f"{self._ray.cluster_resources().get('CPU', 0):g}; received {self._threads}."
            )
        for _ in range(min(count, len(queue))):
            self._start()
        done = len(pieces) - len(queue)
        since = time.monotonic()
        try:
            while queue or self._busy:
                while queue and self._idle:
                    self._give(self._idle.pop(0), queue.pop())
                waiting = [*self._busy, *self._starting]
                ready, _ = self._ray.wait(waiting, num_returns=1, timeout=5)
                if not ready and not self._busy and time.monotonic() - since > _PATIENCE:
                    raise InputError(
                        f"address must be of a cluster with room for an actor of {self._threads} "
                        f"CPUs; none had started after {_PATIENCE:g} s."
                    )
                for answer in ready:
                    since = time.monotonic()
                    done += self._take(answer, queue, done)
        finally:
            for actor in self._all():
                self._ray.kill(actor)

    def _start(self) -> None:
        actor = self._actor.remote(self._open, self._threads)
        self._starting[actor.ready.remote()] = actor

    def _give(self, actor: Any, number: int) -> None:
        piece = self._work.pieces[number]
        self._busy[actor.measure.remote(number, piece.title, dict(piece.depends_on))] = (
            actor,
            number,
        )

    def _take(self, answer: Any, queue: list[int], done: int) -> int:
        """Takes what an actor says; returns how many pieces that finished."""
        actor, number = self._starting.pop(answer, None), None
        if actor is None:
            actor, number = self._busy.pop(answer)
        try:
            said = self._ray.get(answer)
        except self._ray.exceptions.RayActorError:
            self._replace(actor, number, queue)
            return 0
        self._idle.append(actor)
        if number is None:
            return 0
        if "error" in said:
            raise InputError(said["error"])
        piece = self._work.pieces[number]
        self._work.do(piece, lambda _: said["result"])
        self._tell(self._work.line(done + 1, piece, said["result"], said["seconds"]))
        return 1

    def _replace(self, actor: Any, number: int | None, queue: list[int]) -> None:
        self._ray.kill(actor)
        key = -1 if number is None else number
        self._ended[key] = self._ended.get(key, 0) + 1
        title = "start" if number is None else self._work.pieces[number].title
        if self._ended[key] == _TRIES:
            raise InputError(
                f"{title} has ended its actor {_TRIES} times, for want of memory perhaps. Fewer "
                "--actors or a smaller --batch_size take less; ray logs says more."
            )
        if number is not None:
            self._tell(f"{title}: its actor is lost; another one does it again")
            queue.append(number)
        self._start()

    def _all(self) -> list[Any]:
        return [*self._idle, *self._starting.values(), *(actor for actor, _ in self._busy.values())]


def _facts(piece: Piece) -> dict[str, Any]:
    return {"title": piece.title} | dict(piece.depends_on)
