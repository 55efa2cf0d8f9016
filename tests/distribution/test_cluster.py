"""Who takes part is read from TF_CONFIG, and all of them meet before TensorFlow starts."""

import json
import socket
import threading
import time

import pytest

import anomaly.cli
from robustcls import InputError
from robustcls.distribution.cluster import Cluster
from robustcls.distribution.starting import start

TWO = ["127.0.0.1:2222", "127.0.0.1:2223"]


def config(index=0, kind="worker", **jobs):
    return json.dumps({"cluster": jobs or {"worker": TWO}, "task": {"type": kind, "index": index}})


@pytest.fixture
def addresses():
    """Three addresses that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    found = tuple(f"127.0.0.1:{s.getsockname()[1]}" for s in sockets)
    for one in sockets:
        one.close()
    return found


def meet(addresses, facts, timeout=10.0):
    """Lets workers meet, each with its facts; returns what each got, None or its line."""
    said = [None] * len(facts)

    def one(index):
        time.sleep(0.1 * index)
        try:
            Cluster(addresses[: len(facts)], index).meet(facts[index], timeout=timeout)
        except InputError as error:
            said[index] = str(error)

    threads = [threading.Thread(target=one, args=(index,)) for index in range(len(facts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return said


def test_the_chief_comes_first(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config(0, chief=["a:1"], worker=["b:2", "c:3"]))
    assert Cluster.from_environment() == Cluster(("a:1", "b:2", "c:3"), 1, chiefs=1)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "TF_CONFIG must name the workers"),
        ("{", "must be JSON"),
        ("[]", "must be JSON"),
        ("{}", "must be JSON"),
        (config(2), "worker 0 to 1; received worker 2"),
        (config(-1), "received worker -1"),
        (config(0.5), "must be JSON"),
        (config(True), "must be JSON"),
        (config(0, "chief"), "received chief 0"),
        (config(0, worker=TWO, ps=["a:1"]), "received 'ps'"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": [], "index": 0}}', "0 to 0; received"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1e999}}', "JSON"),
        (config(0, worker=["a"]), "host:port; received 'a'"),
        (config(0, worker=["a:99999"]), "host:port"),
        (config(0, worker=["a:1", "a:1"]), "an address of its own"),
        (config(0, worker=["c:3"], chief=["a:1", "b:1"]), "one chief; received 2"),
    ],
)
def test_a_broken_configuration_is_one_line(monkeypatch, text, line):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError, match=line) as raised:
        start("multi_worker")
    assert "\n" not in str(raised.value)


def test_workers_with_the_same_facts_go_on(addresses):
    facts = {"settings": {"seed": 1, "models": ("base",)}}
    assert meet(addresses, [facts] * 3) == [None] * 3


def test_other_settings_are_named_on_every_worker(addresses):
    first, second = meet(addresses, [{"settings": {"seed": 1}}, {"settings": {"seed": 2}}])
    assert first == (
        "settings.seed must be the same on all workers; received 1 here and 2 on worker 1."
    )
    assert "received 2 here and 1 on worker 0" in second


def test_a_worker_that_does_not_answer_is_named_in_time(addresses):
    begin = time.monotonic()
    with pytest.raises(InputError, match=f"worker 1 at {addresses[1]} did not within 0.3 s"):
        Cluster(addresses[:2], 0).meet({}, timeout=0.3)
    assert time.monotonic() - begin < 3


def test_a_stranger_on_the_port_is_no_worker(addresses):
    """What answers as another worker, or in another language, is not taken for one."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        own = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InputError, match="a port that is free"):
            Cluster((own, addresses[0]), 0).meet({}, timeout=0.3)
        with pytest.raises(InputError, match="did not within"):
            Cluster((addresses[0], own), 0).meet({}, timeout=0.3)


def test_a_device_that_is_not_there_is_one_line():
    for distribute in ("mirrored", None):
        with pytest.raises(InputError, match="devices must"):
            start(distribute, devices=["GPU:7"])
    with pytest.raises(InputError, match=r"devices must each be named once; received CPU:0, CPU:0"):
        start("mirrored", devices=["CPU:0", "/cpu:0"])
    with pytest.raises(InputError, match="distribute must be one of mirrored, multi_worker"):
        start("horovod")


def test_a_detector_asks_for_its_workers(monkeypatch, run_here, tmp_path):
    monkeypatch.setenv("TF_CONFIG", config(2))
    flags = ("--data", "fashion_mnist_mini", "--normal_class", "1", "--out", tmp_path / "run")
    done = run_here(anomaly.cli.main, "train", *flags, "--distribute", "multi_worker")
    assert done.returncode == 2
    assert done.stderr.startswith("anomaly: error: TF_CONFIG must give this process a task")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()
