"""The command line from images on disk to metrics, with a kill on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustcls import cli, load_classifier
from robustcls.models import BACKBONES
from robustcls.runs import Run

COMMAND = [str(Path(sys.executable).with_name("robustcls")), "--import", "mine"]
SETTINGS = """
data: {name: %s, image_size: 32}
model: {backbone: four_blocks, dropout: 0.2}
augmentation: {crop_padding: 2}
adversarial: {multiplier: 1.0, step_size: 0.03, epsilon: 0.03, random_start: true}
optimizer: {learning_rate: 0.05}
unfreezing: {patience: 1, min_delta: 1.0, blocks_at_start: 3}
epochs: 3
batch_size: 32
seed: 5
models: [%s]
"""
# Trains in seconds, with all that the large ones have: strides, batch norms, blocks.
BACKBONE = r"""
import keras
import robustcls as rc


@rc.register_backbone(block=r"(block\d)_")
def four_blocks(images):
    x = images
    for block in range(4):
        x = keras.layers.Conv2D(8, 3, 2 if block else 1, "same", name=f"block{block}_conv")(x)
        x = keras.layers.BatchNormalization(name=f"block{block}_bn")(x)
        x = keras.layers.ReLU(name=f"block{block}_relu")(x)
    return x
"""


@pytest.fixture
def run_command(run_here, here, monkeypatch):
    """A function that runs `robustcls` with the backbone; what it registers is gone afterwards."""
    dict(BACKBONES)
    monkeypatch.setattr(BACKBONES, "_places", dict(BACKBONES._places))
    monkeypatch.setattr(BACKBONES, "_found", dict(BACKBONES._found))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    return lambda *arguments: run_here(cli.main, "--import", "mine", *arguments)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes of colour images: stripes across and stripes down."""
    root = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for part, count in (("train", 64), ("test", 16)):
        for label, name in enumerate(("across", "down")):
            (root / part / name).mkdir(parents=True)
            for index in range(count):
                stripes = np.arange(32) // 4 % 2 * 0.6 + generator.normal(0.2, 0.1, (32, 32, 3)).T
                pixels = np.clip(np.moveaxis(stripes, 0, -1), 0, 1)
                pixels = pixels if label else pixels.swapaxes(0, 1)
                image = Image.fromarray((255 * pixels).astype(np.uint8))
                image.save(root / part / name / f"{index}.png")
    return root


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The folder of a test, which is the current one and holds the backbone's module."""
    (tmp_path / "mine.py").write_text(BACKBONE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_config(path: Path, folder: Path, models: str) -> Path:
    path.write_text(SETTINGS % (folder, models))
    return path


@pytest.mark.long
def test_a_killed_training_resumes_to_the_same_result(folder, here, run_command):
    config = write_config(here / "config.yaml", folder, "adversarial")
    done = run_command("train", "--config", config, "--out", here / "whole")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(here / "whole")

    process = subprocess.Popen(
        [*COMMAND, *map(str, ("train", "--config", config, "--out", here / "killed"))],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    checkpoint = here / "killed" / "adversarial" / "checkpoints" / "epoch-001.npz"
    deadline = time.monotonic() + 240
    while not checkpoint.exists():
        assert process.poll() is None, "the training ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (here / "killed" / "adversarial" / "model.keras").exists()

    refused = run_command("train", "--config", config, "--out", here / "killed")
    assert refused.returncode == 2
    assert "Add --resume to go on" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    resumed = run_command("train", "--out", here / "killed", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "Resuming after epoch" in resumed.stdout

    whole, killed = (
        load_classifier(here / name / "adversarial" / "model.keras") for name in ("whole", "killed")
    )
    for first, second in zip(whole.get_weights(), killed.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)
    histories = [
        (here / name / "adversarial" / "history.csv").read_text() for name in ("whole", "killed")
    ]
    assert histories[0] == histories[1]
    assert len(histories[0].splitlines()) == 4
    # With min_delta 1 every epoch is a plateau, so blocks opened on both sides of the kill.
    assert "training block 4" in done.stdout
    assert "training block 5" in done.stdout


@pytest.mark.exhaustive
def test_train_and_evaluate_side_by_side(folder, here, run_command):
    config = write_config(here / "config.yaml", folder, "base, adversarial")
    out = here / "run"
    done = run_command(
        "train", "--config", config, "--out", out, "--epochs", 1, "--unfreezing.patience", 0
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Epoch 1/1: ") == 2
    assert "\b" not in done.stdout
    run = Run(out)
    assert run.trained == ["base", "adversarial"]
    assert run.config["train"]["epochs"] == 1
    assert run.config["train"]["seed"] == 5
    assert set(run.config["weights"].values()) == {"random, seed 5"}
    assert run.config["data"]["class_names"] == ["across", "down"]
    assert {"tensorflow", "keras", "python"} <= set(run.config["versions"])
    for name in run.trained:
        assert list((out / name / "tensorboard").rglob("events.out.tfevents.*"))
        assert (out / name / "history.csv").exists()

    settings = ("--epsilon", 0.05, "--steps", 2, "--curve_limit", 8)
    done = run_command("evaluate", out, *settings)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(out)
    assert "pgd2" in done.stdout
    metrics = json.loads((out / "metrics.json").read_text())
    for name in ("base", "adversarial"):
        assert set(metrics[name]) == {
            "clean", "gaussian", "poisson", "salt_and_pepper", "fgsm", "pgd2", "epsilon",
        }  # fmt: skip
        assert metrics["intervals"][name]["clean"]["count"] == 32
    assert metrics["trained_on"] == ["gaussian", "poisson", "salt_and_pepper"]
    assert (out / "report" / "accuracy_over_epsilon.svg").read_text().startswith("<svg ")

    again = run_command("evaluate", out, *settings)
    assert again.returncode == 0
    assert json.loads((out / "metrics.json").read_text()) == metrics

    # The images a run was trained on must still be those it is evaluated on.
    next((folder / "test" / "down").glob("*.png")).rename(here / "gone.png")
    changed = run_command("evaluate", out, *settings)
    assert changed.returncode == 2
    assert "has changed since" in changed.stderr
