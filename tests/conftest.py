import contextlib
import gc
import importlib.util
import io
import json
import os
import shutil
import tempfile
import types
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")


def pytest_configure(config: pytest.Config) -> None:
    """Gives the tests, and the processes they start, one folder for what is temporary."""
    if not hasattr(config, "workerinput"):
        config.temporary = tempfile.mkdtemp(prefix="tests-of-robustcls-")
        os.environ["TMPDIR"] = tempfile.tempdir = config.temporary


def pytest_unconfigure(config: pytest.Config) -> None:
    """Deletes the folder: processes killed in a test leave files that nobody else deletes."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(config.temporary, ignore_errors=True)


def pytest_collection_finish() -> None:
    """Keeps the garbage collector from walking through TensorFlow again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts files with slow tests first, so that no process is left alone with one at the end."""
    slow = {i.path for i in items if i.get_closest_marker("slow") or i.get_closest_marker("long")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def run_here():
    """A function that runs a command in this process, where TensorFlow is there already.

    It takes the command's `main` and its arguments and returns what `subprocess.run` would.
    """

    def run(main, *arguments):
        out, errors = io.StringIO(), io.StringIO()
        status = 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            try:
                main([str(argument) for argument in arguments])
            except SystemExit as left:
                status = left.code or 0
        return types.SimpleNamespace(
            returncode=status, stdout=out.getvalue(), stderr=errors.getvalue()
        )

    return run


@pytest.fixture
def shallow(monkeypatch):
    """Gives MobileNetV2 one block a stage: what takes time is to trace all its layers."""
    from robustcls.models import mobilenet_v2

    stages = [(channels, 1, stride) for channels, _, stride in mobilenet_v2.STAGES]
    monkeypatch.setattr(mobilenet_v2, "STAGES", stages)


@pytest.fixture(scope="session")
def post():
    """A coroutine function: what a server's application answers, without a socket."""

    async def post(app, path, content):
        sent = []
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
        }

        async def receive():
            return {
                "type": "http.request",
                "body": json.dumps(content).encode(),
                "more_body": False,
            }

        async def send(message):
            sent.append(message)

        await app(scope, receive, send)
        return json.loads(b"".join(message.get("body", b"") for message in sent))

    return post


@pytest.fixture
def browser(tmp_path):
    """A page in headless Chromium, see `browser.py`."""
    # Test folders are no packages.
    spec = importlib.util.spec_from_file_location("browser", Path(__file__).with_name("browser.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if module.CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium")
    page = module.Browser(tmp_path / "profile")
    yield page
    page.close()
