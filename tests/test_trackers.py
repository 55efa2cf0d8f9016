"""Trackers: stand-ins have the names and arguments of MLflow's and Weights & Biases' own."""

import contextlib
import sys
from types import ModuleType, SimpleNamespace

import keras
import numpy as np
import pytest
from PIL import Image

from anomaly import cli
from robustcls import InputError
from robustcls._trackers import require_tracker, tracked


class Logger(keras.callbacks.Callback):
    """The callback of either."""


@pytest.fixture
def told(monkeypatch):
    """What the stand-ins were told, in order."""
    found = []

    @contextlib.contextmanager
    def start_run(run_name):
        found.append(("begin", run_name))
        yield
        found.append("end")

    def init(name, config):
        found.append(("begin", name, config))
        return SimpleNamespace(finish=lambda: found.append("end"))

    modules = {
        "mlflow": {
            "start_run": start_run,
            "log_dict": lambda values, file: found.append((file, values)),
        },
        "mlflow.keras": {"MlflowCallback": Logger},
        "wandb": {"init": init},
        "wandb.integration": {},
        "wandb.integration.keras": {"WandbMetricsLogger": Logger},
    }
    for name, members in modules.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    return found


@pytest.mark.parametrize("tracker", ["mlflow", "wandb"])
def test_a_training_is_one_record(told, tracker, tmp_path):
    require_tracker(tracker)
    settings = {"epochs": 3}
    with tracked(tracker, tmp_path / "mine", "base", settings) as callbacks:
        assert [type(callback) for callback in callbacks] == [Logger]
        assert told[0][:2] == ("begin", "mine/base")
        assert told[-1][-1] == settings
    assert told[-1] == "end"


def test_none_and_what_is_not_there(monkeypatch, tmp_path):
    for tracker in (None, "tensorboard"):
        require_tracker(tracker)
        with tracked(tracker, tmp_path, "base", {}) as callbacks:
            assert callbacks == []
    for name in ("mlflow", "mlflow.keras", "wandb"):
        monkeypatch.setitem(sys.modules, name, None)
    for tracker in ("mlflow", "wandb"):
        with pytest.raises(InputError, match=f"{tracker} is not .* pip install {tracker}"):
            require_tracker(tracker)
    with pytest.raises(InputError, match="tracker must be one of mlflow, tensorboard, wandb"):
        require_tracker("tensorbord")


def test_each_stage_of_a_detector_is_one_record(told, monkeypatch, tmp_path):
    epochs = []
    monkeypatch.setattr(Logger, "on_epoch_end", lambda self, epoch, logs: epochs.append(logs))
    folder = tmp_path / "photos" / "good"
    folder.mkdir(parents=True)
    for number in range(52):
        pixels = np.random.default_rng(number).integers(0, 255, (16, 16), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    settings = ["--method", "autoencoder", "--epochs", "2", "--tracker", "mlflow"]
    cli.main(["train", "--data", str(folder), *settings, "--out", str(tmp_path / "run")])
    begun = [entry[1] for entry in told if entry[0] == "begin"]
    assert begun == [f"run/{stage.name}" for stage in (tmp_path / "run" / "training").glob("*/")]
    assert [sorted(logs) for logs in epochs] == [["loss", "val_loss"]] * 2
    assert told[-1] == "end"
    with pytest.raises(SystemExit):
        cli.main(["train", "--data", str(folder), "--out", "other", "--tracker", "mlfow"])
