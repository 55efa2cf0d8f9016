"""The Ray cluster that work goes to: one that is there, or one for as long as the work lasts."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

from robustcls._validation import InputError
from robustcls.distribution.cluster import short

# Seconds that a cluster may need to take a process.
_PATIENCE = 20
_ASKS = "it asks for its token"
# Ray itself tries for minutes, and ends a process that it cannot connect; so one is sent ahead.
_KNOCK = """
import sys, ray
try:
    ray.init(address=sys.argv[1], log_to_driver=False, logging_level="critical")
except BaseException as error:
    sys.exit("robustcls: " + " ".join(str(error).split()))
"""


def require_ray(address: str | None) -> None:
    """Makes sure that Ray is installed, and that a cluster answers at an address.

    Args:
        address: of a cluster, as for `measure_on_ray`.

    Raises:
        InputError: Ray is not installed, or no cluster answers within 20 seconds.
    """
    try:
        found = importlib.util.find_spec("ray") is not None
    except ValueError:  # a module that is blocked
        found = False
    if not found:
        raise InputError(
            "engine ray must have the package ray; it is not installed. Install with: "
            "pip install '.[ray]' in the checkout of robustcls."
        )
    if address is None:
        return
    if address != "auto":
        _require_port(address)
    _require_cluster(address)


@contextlib.contextmanager
def connected(address: str | None, cpus: int) -> Iterator[None]:
    """Connects to a cluster, or starts one here, unless there is a connection already.

    Args:
        address: of a cluster, as for `measure_on_ray`.
        cpus: of a cluster that is started.

    Raises:
        InputError: as `require_ray`.
    """
    # Ray reads these when it is imported.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Its own 15 leaves actors nothing of a machine that does something else, too.
    os.environ.setdefault("RAY_worker_niceness", "0")
    require_ray(address)
    import ray

    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    folder = None
    if address is None:
        folder = tempfile.mkdtemp(prefix="ray-")
        options |= {"address": "local", "num_cpus": cpus, "include_dashboard": False}
        options |= {"_temp_dir": folder, "object_store_memory": 100 * 2**20}
    else:
        options["address"] = address
    obey = signal.getsignal(signal.SIGTERM)
    try:
        try:
            ray.init(**options)
        except (Exception, SystemExit) as error:
            if address is None:
                raise InputError(f"engine ray must start here; {_in_words(error)}") from None
            raise _no_cluster(address, _in_words(error)) from None
        if callable(obey):  # Ray's own would leave without a line
            _listen(obey)
        yield
    finally:
        ray.shutdown()
        _listen(obey)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _listen(obey: Any) -> None:
    """Gives SIGTERM its handler of before; None is one that Python does not know."""
    if obey is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, obey)


def _require_port(address: str) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise InputError(f"address must be host:port or auto; received {address!r}.")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=5):
            return
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(
            f"address must be of a Ray cluster; none answers at {address} ({why}). "
            "Start one with: ray start --head"
        ) from None


@functools.cache
def _require_cluster(address: str) -> None:
    knock = [sys.executable, "-c", _KNOCK, address]
    try:
        done = subprocess.run(
            knock,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
        )
    except subprocess.TimeoutExpired as error:
        said = error.stderr.decode(errors="replace") if isinstance(error.stderr, bytes) else ""
        raise _no_cluster(address, _token(said) or f"none within {_PATIENCE} s") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("robustcls: ")]
        told = lines[-1].removeprefix("robustcls: ") if lines else ""
        raise _no_cluster(
            address, _token(done.stderr) or told or "it ended the process that connected"
        )


def _token(said: str) -> str:
    """The way out where a cluster asks for its token; "" where it does not."""
    if "Authentication token" not in said:
        return ""
    return f"{_ASKS}: RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH its file"


def _no_cluster(address: str, why: str) -> InputError:
    where = "on this machine" if address == "auto" else f"at {address}"
    start = "" if why.startswith(_ASKS) else " Start one with: ray start --head"
    return InputError(
        f"address must be of a Ray cluster that takes this process; none does {where} "
        f"({short(why)}).{start}"
    )


def _in_words(error: BaseException) -> str:
    return short(" ".join(str(error).split()) or type(error).__name__)
