"""The `anomaly` command, from a folder of images to figures."""

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

from anomaly import OneClassDetector, cli
from robustcls.runs import Run

COMMAND = str(Path(sys.executable).with_name("anomaly"))
ENVIRONMENT = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}


@pytest.fixture
def run_command(run_here):
    return lambda *arguments: run_here(cli.main, *arguments)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Waves are normal; waves with a bright square, and noise, are not."""
    root = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:28, :28] / 6
    for part, count in (("train", 100), ("test", 40)):
        for name in ("defect", "noise", "wave"):
            (root / part / name).mkdir(parents=True)
            for index in range(count):
                phase = generator.uniform(0, 2 * np.pi)
                pixels = 0.4 + 0.2 * np.sin(rows + phase) * np.cos(columns + phase / 2)
                if name == "defect":
                    pixels[8:14, 12:18] = 1
                if name == "noise":
                    pixels = generator.random((28, 28))
                image = Image.fromarray((255 * pixels).astype(np.uint8))
                image.save(root / part / name / f"{index}.png")
    return root


def arguments(folder, out, *more):
    return (
        *("train", "--method", "autoencoder", "--data", folder, "--normal-class", "wave"),
        *("--out", out, "--settings.learning_rate", 0.005, "--settings.batch_size", 16, *more),
    )


@pytest.mark.long
def test_train_and_evaluate(folder, tmp_path, run_command):
    out = tmp_path / "run"
    done = run_command(*arguments(folder, out, "--epochs", 15, "--seed", 3))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == str(out)
    assert "Epoch 15/15" in done.stdout
    run = Run(out)
    assert run.config["data"]["normal_class"] == "wave"
    assert run.config["data"]["images"] == {"train": 81, "validation": 19}
    assert run.config["detector"]["epochs"] == 15
    assert run.config["detector"]["learning_rate"] == 0.005
    assert run.config["seed"] == run.config["detector"]["seed"] == 3
    assert {"tensorflow", "keras", "python"} <= set(run.config["versions"])
    assert len((out / "training" / "autoencoder" / "history.csv").read_text().splitlines()) == 16
    detector = OneClassDetector.load(out / "detector")
    assert detector.method == "autoencoder"

    done = run_command("evaluate", out)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == str(out)
    assert "AUROC" in done.stdout
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["auroc"] > 0.95
    assert metrics["detection_rate"]["count"] == 80
    assert metrics["detection_rate"]["got"] > 0.9
    assert metrics["false_alarm_rate"]["asked"] == 0.05
    assert metrics["false_alarm_rate"]["count"] == 40
    assert metrics["threshold"] == detector.threshold
    # The figures are those of the saved detector on the test folder, and of nothing else.
    images = {
        name: np.stack(
            [np.asarray(Image.open(path)) for path in (folder / "test" / name).iterdir()]
        )
        for name in ("wave", "defect", "noise")
    }
    alarms = {
        name: detector.predict(pixels[..., None].astype(np.float32) / 255).mean()
        for name, pixels in images.items()
    }
    assert metrics["false_alarm_rate"]["got"] == pytest.approx(alarms["wave"])
    found = (alarms["defect"] + alarms["noise"]) / 2
    assert metrics["detection_rate"]["got"] == pytest.approx(found)
    report = (out / "report" / "anomaly.html").read_text()
    # Eight images at each end of both kinds, with the reconstruction and the map.
    assert report.count('alt="test/') == 4 * 8 * 3
    for part in ("Scores", "autoencoder: loss", "Features"):
        assert f'alt="{part}"' in report
    assert f"{100 * metrics['auroc']:.1f}" in report
    assert "://" not in report
    gallery = (out / "report" / "images.html").read_text()
    assert gallery.count('alt="test/') == 3 * min(60, sum(map(len, images.values())))

    cli.main(["export", str(out), "--name", "waves"])
    card = (out / "export" / "1" / "MODEL_CARD.md").read_text()
    assert "- normal class: wave" in card
    assert f"| auroc | {100 * metrics['auroc']:.1f} % |" in card
    assert 'name: "waves"' in (out / "export" / "models.config").read_text()

    kept = folder / "test" / "wave" / "0.png"
    kept.rename(tmp_path / "0.png")
    changed = run_command("evaluate", out)
    (tmp_path / "0.png").rename(kept)
    assert changed.returncode == 2
    assert "has changed since" in changed.stderr


@pytest.mark.exhaustive
def test_a_killed_training_resumes_to_the_same_result(folder, tmp_path, run_command):
    more = ("--epochs", 15, "--augmentation.crop_padding", 2, "--augmentation.hue", 0)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = run_command(*arguments(folder, whole, *more))
    assert done.returncode == 0, done.stderr
    command = [COMMAND, *map(str, arguments(folder, killed, *more))]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT
    )
    deadline = time.monotonic() + 240
    while not list(killed.glob("training/autoencoder/checkpoints/epoch-*.npz")):
        assert process.poll() is None, "the training ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "detector").exists()

    unfinished = run_command("evaluate", killed)
    assert unfinished.returncode == 2
    assert "Was its training interrupted?" in unfinished.stderr
    refused = run_command(*arguments(folder, killed, *more))
    assert refused.returncode == 2
    assert "Add --resume to go on" in refused.stderr
    resumed = run_command("train", "--out", killed, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert ", after epoch" in resumed.stdout
    histories = [
        np.loadtxt(out / "training" / "autoencoder" / "history.csv", delimiter=",", skiprows=1)
        for out in (whole, killed)
    ]
    assert len(histories[0]) == 15
    np.testing.assert_allclose(histories[0], histories[1], rtol=1e-3)
    thresholds = [OneClassDetector.load(out / "detector").threshold for out in (whole, killed)]
    assert thresholds[0] == pytest.approx(thresholds[1], rel=1e-3)


@pytest.mark.parametrize("given", [["--help"], ["train", "--help"], ["evaluate", "--help"]])
def test_help_answers_without_tensorflow(given):
    code = (
        "import sys; sys.argv[0] = 'anomaly'\n"
        "from anomaly import cli\n"
        "try: cli.main(sys.argv[1:])\n"
        "finally: print('TENSORFLOW' if 'tensorflow' in sys.modules else 'none')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *given], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage: anomaly" in done.stdout
    assert done.stdout.splitlines()[-1] == "none"


def test_the_command_is_installed():
    done = subprocess.run([COMMAND, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage: anomaly" in done.stdout


TRAIN = ["train", "--method", "autoencoder", "--data", "fashion_mnist_mini", "--out", "OUT"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "COMMAND must be one of"),
        (["fit"], "received 'fit'"),
        (["evaluate"], "required"),
        (["evaluate", "OUT"], "does not exist"),
        (["evaluate", "FOLDER"], "holds no config.json"),
        (TRAIN, "normal_class"),
        ([*TRAIN, "--normal-class", "10"], "normal_class must be an integer >= 0 and <= 9"),
        ([*TRAIN, "--normal-class", "Sneeker"], "Did you mean 'Sneaker'?"),
        ([*TRAIN, "--normal-class", "0", "--method", "autoencodr"], "Did you mean 'autoencoder'?"),
        ([*TRAIN, "--normal-class", "0", "--data", "fashion_mni"], "name must be an image folder"),
        ([*TRAIN, "--normal-class", "0", "--epochs", "0"], "epochs must be an integer >= 1"),
        ([*TRAIN, "--normal-class", "0", "--epochs", "many"], "epochs"),
        ([*TRAIN, "--normal-class", "0", "--seed", "-1"], "seed must be an integer >= 0"),
        ([*TRAIN, "--normal-class", "0", "--false-alarm-rate", "5"], "Did you mean 0.05?"),
        ([*TRAIN, "--normal-class", "0", "--false_alarm_rate", "0"], "must be in (0, 1)"),
        ([*TRAIN, "--normal-class", "0", "--image-size", "8"], "at least 16 pixels"),
        ([*TRAIN, "--normal-class", "0", "--settings.depth", "3"], "received 'depth'"),
        ([*TRAIN, "--normal-class", "0", "--settings.seed", "3"], "settings must not hold seed"),
        ([*TRAIN, "--normal-class", "0", "--settings.learning_rate", "x"], "learning_rate must"),
        ([*TRAIN, "--normal-class", "0", "--settings.batch_size", "5000"], "to train on, 900"),
        ([*TRAIN, "--normal-class", "0", "--nonsense", "3"], "nonsense"),
        ([*TRAIN, "--normal-class", "0", "--resume", "--overwrite"], "exclude each other"),
        ([*TRAIN[:-1], "FOLDER", "--normal-class", "0"], "neither"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(given, message, tmp_path, capfd):
    (tmp_path / "precious").write_text("x")
    places = {"OUT": str(tmp_path / "out"), "FOLDER": str(tmp_path)}
    with pytest.raises(SystemExit) as exit_:
        cli.main([places.get(word, word) for word in given])
    assert exit_.value.code == 2
    captured = capfd.readouterr()
    (line,) = captured.err.strip().splitlines()
    assert line.startswith("anomaly: error: ")
    assert message in line
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
