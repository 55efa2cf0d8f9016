"""Work on Ray comes to the bits of one process, also when an actor is lost."""

import functools
import os
import signal
import socket
import sys

import keras
import numpy as np
import pytest
from PIL import Image

import anomaly.cli
from robustcls import InputError, cli
from robustcls.distribution import ray_cluster
from robustcls.distribution.ray_cluster import connected
from robustcls.distribution.work import Piece, Work
from robustcls.evaluation.runs.comparison import evaluate_models
from robustcls.evaluation.runs.config import EvaluationConfig
from robustcls.evaluation.runs.models import find_models
from robustcls.evaluation.runs.work import open_work, work_of

CONFIG = EvaluationConfig(attack="pgd", steps=2, curve_limit=0, batch_size=8)


@pytest.fixture(scope="module")
def model_and_images(tmp_path_factory):
    """The arguments of `find_models`: a tiny model, and pictures of two classes."""
    folder = tmp_path_factory.mktemp("ray")
    rng = np.random.default_rng(0)
    for number in range(24):
        name = "ab"[number % 2]
        pixels = rng.integers(0, 100, (8, 8, 3), np.uint8) + 150 * (number % 2)
        (folder / "images" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / name / f"{number}.png")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    model.save(folder / "model.keras")
    return {"path": str(folder / "model.keras"), "data": str(folder / "images")}


@pytest.mark.long
def test_two_actors_of_which_one_is_killed(model_and_images, tmp_path):
    pytest.importorskip("ray")
    from robustcls.distribution.ray_engine import measure_on_ray

    whole = find_models(**model_and_images, out=tmp_path / "whole")
    metrics = evaluate_models(whole, CONFIG)
    where = model_and_images | {"out": str(tmp_path / "spread")}
    killed, mark = "model/gaussian", str(tmp_path / "killed")

    def open_dying() -> Work:
        work = open_work(where, CONFIG, "default")

        def dying(measure, state):
            if not os.path.exists(mark):
                open(mark, "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
            return measure(state)

        for piece in work.pieces:
            if piece.title == killed:
                object.__setattr__(piece, "measure", functools.partial(dying, piece.measure))
        return work

    spread = find_models(**where)
    lines = []
    measure_on_ray(work_of(spread, CONFIG), open_dying, actors=2, tell=lines.append)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL  # Ray's own handler went with it
    assert f"{killed}: its actor is lost; another one does it again" in lines
    done = [line.split()[1].rstrip(":") for line in lines if "/6 " in line]
    assert sorted(done) == sorted(piece.title for piece in work_of(spread, CONFIG).pieces)
    assert evaluate_models(spread, CONFIG, resume=True) == metrics
    files = [folder / "metrics.json" for folder in (whole.folder, spread.folder)]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.fixture(scope="module")
def ray_here():
    """One Ray for all commands; each starts an actor of its own."""
    pytest.importorskip("ray")
    with connected(None, 1):
        yield


COMMANDS = {
    "evaluate": (
        *("evaluate", "{path}", "--data", "{data}", "--attack", "fgsm", "--curve_limit", "0"),
        "metrics.json",
    ),
    "smoothing": (
        *("certify", "{path}", "--data", "{data}", "--samples", "10", "--selection", "5"),
        "certification.json",
    ),
    "bounds": (
        *("certify", "{path}", "--data", "{data}", "--bound", "ibp", "--epsilon", "0.01"),
        "bounds.json",
    ),
    "explain": (
        *("explain", "{path}", "--data", "{data}", "--methods", "gradients", "--limit", "4"),
        *("--quality_limit", "4", "--attack", "none", "explanations.jsonl"),
    ),
    "benchmark": (
        *("benchmark", "--data", "fashion_mnist_mini", "--methods", "one_class_svm"),
        *("--classes", "[1]", "--seeds", "1", "--oracle", "false", "results.csv"),
    ),
}


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name == "benchmark" else pytest.mark.exhaustive)
        for name in COMMANDS
    ],
)
def test_every_command_that_is_spread_runs_on_ray(
    name, ray_here, model_and_images, run_here, tmp_path
):
    *words, file = COMMANDS[name]
    main = anomaly.cli.main if words[0] == "benchmark" else cli.main
    words = [word.format(**model_and_images) for word in words]
    found = []
    for flags in ((), ("--engine", "ray", "--actors", "1")):
        out = tmp_path / str(len(found))
        done = run_here(main, *words, "--out", out, *flags)
        assert done.returncode == 0, done.stderr
        found.append(next(out.rglob(file)).read_bytes())
    if name == "benchmark":  # what a clock measures is never the same
        found = [[row.rsplit(b",", 2)[0] for row in table.splitlines()] for table in found]
    assert found[0] == found[1]
    assert "1/" in done.stdout


def test_what_answers_must_be_a_cluster(run_here, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setattr(ray_cluster, "_PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        done = run_here(cli.main, "evaluate", "RUN", "--engine", "ray", "--address", address)
    assert done.returncode == 2
    assert f"none does at {address} (none within 0.5 s)" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--engine", "spark"], "engine must be one of ray"),
        (["--engine", "ray", "--shards", "1/2"], "exclude each other"),
        (["--actors", "2"], "actors must come with --engine ray"),
        (["--engine", "ray", "--threads", "0"], "threads must be at least 1"),
        (["--engine", "ray", "--address", "here"], "address must be host:port or auto"),
        (["--engine", "ray", "--address", "127.0.0.1:{port}"], "none answers at 127.0.0.1:"),
    ],
)
def test_bad_flags_are_one_line(run_here, flags, line):
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = run_here(cli.main, "evaluate", "RUN", *(flag.format(port=port) for flag in flags))
    assert done.returncode == 2
    assert line in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_ray_the_line_says_how_to_install_it(run_here, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    done = run_here(cli.main, "certify", "RUN", "--engine", "ray")
    assert done.returncode == 2
    assert "pip install '.[ray]'" in done.stderr


def test_an_actor_refuses_what_is_not_the_same_there(monkeypatch):
    from robustcls.distribution.ray_engine import _Worker

    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        monkeypatch.setenv(name, os.environ.get(name, "0"))

    def fail(state):
        raise InputError("images must be there")

    pieces = [
        Piece("base", "clean", {"model": "1", "data": "2"}, lambda state: {"value": 1}),
        Piece("base", "pgd20", {"model": "1"}, fail),
    ]
    worker = _Worker(lambda: Work(None, pieces), 1)
    assert worker.measure(0, "base/clean", {"model": "1", "data": "2"})["result"] == {"value": 1}
    other = worker.measure(0, "base/clean", {"model": "1", "data": "3"})
    assert other["error"].startswith("data must be the same everywhere; received '3' here and '2'")
    assert worker.measure(1, "base/pgd20", {"model": "1"}) == {"error": "images must be there"}
