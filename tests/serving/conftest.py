"""One tiny classifier, exported once, and one server process for all tests of serving."""

import contextlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import grpc
import keras
import numpy as np
import pytest

from robustcls.serving import export
from robustcls.serving.checking import fresh_process
from robustcls.serving.checking.parity import TOLERANCE

CLASS_NAMES = ["cat", "dog", "<b>bird</b>"]
SHAPE = (12, 16, 1)


@pytest.fixture(scope="module", autouse=True)
def short_timing():
    """Measures how long an answer takes in a moment, not in a second for each batch size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("robustcls.serving.exports.conversion_cost._SECONDS", 0.02)
        yield


@pytest.fixture(scope="session")
def model():
    """Convolutions with batch norms whose statistics are those of some training."""
    images = keras.Input(SHAPE, name="images")
    x = images
    for filters in (4, 8):
        x = keras.layers.Conv2D(filters, 3, 2, padding="same", use_bias=False)(x)
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.ReLU()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(images, keras.layers.Dense(3, name="logits")(x), name="tiny")
    draws = np.random.default_rng(0)
    for layer in model.layers:
        for weight in layer.weights:
            if len(weight.shape) > 1:
                weight.assign(draws.normal(0, 0.4, weight.shape))
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(draws.normal(0, 0.1, layer.moving_mean.shape))
            layer.moving_variance.assign(draws.uniform(0.01, 0.1, layer.moving_mean.shape))
    return model


@pytest.fixture(scope="session")
def exported(model, tmp_path_factory):
    """The model's folder, with version 1; not to be changed."""
    folder = tmp_path_factory.mktemp("export") / "tiny"
    # As a trainer, of which the base model is taken.
    export(SimpleNamespace(base_model=model), folder, class_names=CLASS_NAMES, name="tiny")
    return folder


@pytest.fixture(scope="session")
def cases(exported):
    """Inputs and answers by signature, input or output, and name."""
    with np.load(exported / "1" / "assets.extra" / "cases.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}


@pytest.fixture(scope="session")
def failed_checks():
    """Says which checks of a fresh process a loaded SavedModel fails here, without the process."""

    def failed(loaded, cases):
        checks = [fresh_process.check_signatures(loaded.signatures, cases)]
        for name, (inputs, expected) in cases.items():
            function = loaded.signatures[name]
            checks += fresh_process.check_case(name, function, inputs, expected, TOLERANCE)
        return [entry["check"] for entry in checks if not entry["passed"]]

    return failed


@dataclass
class Server:
    process: subprocess.Popen
    rest: str
    grpc: str
    folder: Path
    log: Path

    @property
    def model(self):
        return f"{self.rest}/v1/models/tiny"


@pytest.fixture(scope="session")
def run_server():
    """Starts a server: a context manager of (folder, log file, flags)."""
    return _run_server


@contextlib.contextmanager
def _run_server(folder, log, *flags):
    command = [sys.executable, "-c", "from robustcls.cli import main; main()", "serve", folder]
    command += ["--rest-port", "0", "--grpc-port", "0", "--poll-seconds", "0.2", *flags]
    with open(log, "w") as errors:
        process = subprocess.Popen(
            [*map(str, command)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
    try:
        rest = process.stdout.readline().split()[-1].rstrip("/")
        yield Server(process, rest, process.stdout.readline().split()[-1], folder, log)
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


@pytest.fixture(scope="session")
def server(exported, run_server, tmp_path_factory):
    """A server of a folder that tests may add versions to."""
    root = tmp_path_factory.mktemp("served")
    shutil.copytree(exported, root / "tiny")
    with run_server(root / "tiny", root / "log", "--max-megabytes", "1") as running:
        yield running


@pytest.fixture(scope="session")
def channel(server):
    with grpc.insecure_channel(server.grpc) as open_channel:
        yield open_channel
