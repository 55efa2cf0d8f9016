"""Two real processes on this machine train to what one does."""

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[2]
TRAINING = Path(__file__).with_name("training.py")


def start_two(command, **environment):
    """Starts the command as two workers of one cluster; the first is the chief."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    addresses = [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]
    for one in sockets:
        one.close()
    return [
        subprocess.Popen(
            command(index),
            env={
                **os.environ,
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "PYTHONPATH": str(ROOT),
                "TF_CONFIG": json.dumps(
                    {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
                ),
                **{name: value for name, value in environment.items() if index},
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]


def finish(processes, timeout=240):
    """Returns the exit status, output and errors of each, after it has ended."""
    try:
        ended = [process.communicate(timeout=timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(p.returncode, *texts) for p, texts in zip(processes, ended, strict=True)]


def test_every_kind_trains_to_what_one_process_does(tmp_path):
    files = [tmp_path / f"{index}.npz" for index in range(2)]
    processes = start_two(lambda index: [sys.executable, str(TRAINING), str(files[index])])
    spec = importlib.util.spec_from_file_location("training_of_workers", TRAINING)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    alone = module.train(contextlib.nullcontext())
    ended = finish(processes)
    assert [status for status, *_ in ended] == [0, 0], ended
    chief, worker = (np.load(file) for file in files)
    assert set(chief) == set(alone)
    for name in chief:
        np.testing.assert_array_equal(chief[name], worker[name], err_msg=name)
        np.testing.assert_allclose(chief[name], alone[name], rtol=0, atol=1e-4, err_msg=name)


MINE = """
import os
import time
import keras
import robustcls as rc
from robustcls.training.checkpoints import EpochCheckpoint

@rc.register_backbone(block=r"(block\\d)_")
def tiny(images):
    x = keras.layers.Conv2D(4, 3, 4, "same", name="block0_conv")(images)
    x = keras.layers.BatchNormalization(name="block0_bn")(x)
    return keras.layers.ReLU(name="block0_relu")(x)

checkpoint = EpochCheckpoint.on_train_batch_end

def end(self, batch, logs=None):
    if len(self.history) == 1 and batch == 1:
        os.kill(os.getpid(), int(os.environ["END_BY"]))
    checkpoint(self, batch, logs)

if os.environ.get("END_BY"):
    EpochCheckpoint.on_train_batch_end = end
if os.environ.get("SLOW"):
    slow = lambda self, batch, logs=None: time.sleep(1)
    EpochCheckpoint.on_train_batch_begin = slow
"""
SETTINGS = """
data: {name: fashion_mnist_mini}
model: {backbone: tiny}
epochs: 3
batch_size: 500
models: [base]
"""


@pytest.mark.exhaustive
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_goes_on_when_one_of_two_workers_was_ended(number, tmp_path, monkeypatch):
    """From its last checkpoint to what it would have come to otherwise.

    A kill costs an epoch; a worker that is told to end lets the chief save in mid-epoch.
    """
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "run.yaml").write_text(SETTINGS)
    monkeypatch.chdir(tmp_path)

    train = [sys.executable, "-m", "robustcls", "--import", "mine", "train"]
    train += ["--config", "run.yaml", "--out"]
    alone = subprocess.Popen(
        [*train, "alone"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def command(index):
        return [*train, f"run{index}", "--distribute", "multi_worker"]

    chief, worker = finish(start_two(command, END_BY=str(int(number))))
    if number == signal.SIGKILL:
        assert (chief[0], worker[0]) == (2, -9), (chief, worker)
        assert "one was lost. Start all of them again" in chief[2].splitlines()[-1]
    else:
        assert (chief[0], worker[0]) == (143, 143), (chief, worker)
        kept, ended_by = chief[2].splitlines()[-2:]
        assert "keeps everything up to batch 3 of epoch 2 of base; --resume goes on" in kept
        assert ended_by == "robustcls: ended by SIGTERM"
    assert not (tmp_path / "run0/base/model.keras").exists()
    ended = finish(start_two(lambda index: [*command(index), "--resume"], SLOW="1"))
    assert [status for status, *_ in ended] == [0, 0], ended
    assert "slower than the others: worker 1 (" in ended[0][1]
    rows = [line.split(",") for line in (tmp_path / "run0/base/workers.csv").read_text().split()]
    assert rows[0][:2] == ["epoch", "worker"]
    assert {row[1] for row in rows[1:]} == {"0", "1"}
    # The chief alone writes.
    assert not (tmp_path / "run1").exists()
    status, _, errors = finish([alone])[0]
    assert status == 0, errors
    from robustcls import load_classifier

    weights = [
        load_classifier(tmp_path / run / "base/model.keras").get_weights()
        for run in ("run0", "alone")
    ]
    for here, there in zip(*weights, strict=True):
        np.testing.assert_allclose(here, there, rtol=0, atol=1e-4)
    histories = [(tmp_path / run / "base/history.csv").read_text() for run in ("run0", "alone")]
    assert [len(text.splitlines()) for text in histories] == [4, 4]


@pytest.mark.exhaustive
def test_two_workers_train_a_detector_by_the_command(tmp_path):
    train = [sys.executable, "-m", "anomaly", "train", "--method", "autoencoder"]
    train += ["--data", "fashion_mnist_mini", "--normal_class", "1", "--epochs", "1"]
    train += ["--settings", '{"batch_size": 100}', "--out"]

    def command(index):
        return [*train, str(tmp_path / f"run{index}"), "--distribute", "multi_worker"]

    ended = finish(start_two(command))
    assert [status for status, *_ in ended] == [0, 0], ended
    assert ended[0][1].splitlines()[-1] == str(tmp_path / "run0")
    assert not (tmp_path / "run1").exists()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([*train, str(tmp_path / "alone")], env=environment, check=True, timeout=240)
    from anomaly.experiments import load_detector

    here, there = (load_detector(tmp_path / run) for run in ("run0", "alone"))
    assert here.threshold == pytest.approx(there.threshold, abs=1e-4)
    images = np.random.default_rng(0).random((5, 28, 28, 1), "float32")
    np.testing.assert_allclose(here.score(images), there.score(images), rtol=0, atol=1e-4)
