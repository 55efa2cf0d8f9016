"""Trackers: stand-ins have the names and arguments of MLflow's and Weights & Biases' own."""

import contextlib
import sys
from types import ModuleType, SimpleNamespace

import keras
import pytest

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
