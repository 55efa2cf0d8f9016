"""Two real processes on this machine train to what one does."""

import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow
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
