"""What a user sees who gets something wrong: one line, status 2, nothing lost."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustcls import cli
from robustcls.cli import main

TRAIN = ["train", "--out", "OUT"]


@pytest.fixture
def photos(tmp_path):
    root = tmp_path / "photos"
    for part in ("train", "test"):
        for name in ("a", "b"):
            (root / part / name).mkdir(parents=True)
            for index in range(12):
                pixels = np.full((16, 16, 3), 20 * index, np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{index}.png")
    return root


def fail(capsys, *arguments):
    """Runs the command, which must fail; returns its one line."""
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("robustcls: error: ")
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evalute"], "evaluate"),
        (["train"], "out"),
        (["evaluate"], "run"),
        (["evaluate", "/nonexistent/run"], "/nonexistent/run does not exist"),
        ([*TRAIN, "--config", "/nonexistent.yaml"], "does not exist"),
        ([*TRAIN, "--epochs", "3.5"], "3.5"),
        ([*TRAIN, "--epochs", "0"], "epochs must be an integer >= 1; received 0"),
        ([*TRAIN, "--model.backbone", "mobilnet_v2"], "Did you mean 'mobilenet_v2'?"),
        ([*TRAIN, "--adversarial.step_size", "8"], "Did you mean 8/255?"),
        ([*TRAIN, "--adversarial.grad_norm", "linf"], "grad_norm must be one of infinity"),
        ([*TRAIN, "--augmentation", "{flip: true}"], "'flip'"),
        ([*TRAIN, "--data.name", "fashion_mnst"], "fashion_mnist"),
        ([*TRAIN, "--data.name", "/nonexistent/photos"], "/nonexistent/photos does not exist"),
        ([*TRAIN, "--resume", "--overwrite"], "exclude each other"),
    ],
)
def test_bad_arguments(capsys, tmp_path, arguments, message):
    out = tmp_path / "run"
    arguments = [str(out) if argument == "OUT" else argument for argument in arguments]
    assert message in fail(capsys, *arguments)
    assert not out.exists()


def test_an_unknown_config_key_is_named(capsys, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("epohs: 3\n")
    line = fail(capsys, "train", "--config", config, "--out", tmp_path / "run")
    assert "epohs" in line
    config.write_text("model: {bakbone: mobilenet_v2}\n")
    line = fail(capsys, "train", "--config", config, "--out", tmp_path / "run")
    assert "bakbone" in line


def test_bad_images_are_named(capsys, tmp_path, photos):
    (photos / "train" / "a" / "3.png").write_text("no image")
    line = fail(capsys, "train", "--data.name", photos, "--out", tmp_path / "run")
    assert "3.png" in line
    assert "skip_bad_images" in line
    main(
        ["data", "show", str(photos), "--skip_bad_images", "true", "--out", str(tmp_path / "s.png")]
    )
    shown = capsys.readouterr().out
    assert "skipped" in shown
    assert "3.png" in shown
    assert (tmp_path / "s.png").exists()


def test_too_few_or_too_small_images(capsys, tmp_path, photos):
    arguments = ("--data.name", photos, "--batch_size", "128", "--out", tmp_path / "run")
    assert "batch_size" in fail(capsys, "train", *arguments)
    arguments = ("--data.name", photos, "--batch_size", "4", "--out", tmp_path / "other")
    line = fail(capsys, "train", "--model.backbone", "densenet121", *arguments)
    assert "densenet121" in line
    assert "16" in line


def test_a_file_of_the_users_is_never_overwritten(capsys, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for flag, message in (("--overwrite", "neither"), ("--resume", "holds no config.json")):
        assert message in fail(capsys, "train", "--out", tmp_path, flag)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_help_answers_without_tensorflow():
    command = Path(sys.executable).with_name("robustcls")
    for arguments in ([], ["train"], ["evaluate"], ["data", "show"]):
        code = (
            "import sys; sys.argv = [sys.argv[1], *sys.argv[2:]]\n"
            "from robustcls.cli import main\n"
            "try:\n    main()\n"
            "finally:\n    assert 'tensorflow' not in sys.modules\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(command), *arguments, "--help"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert "usage: " in done.stdout


def test_an_interrupt_is_one_line(capsys, monkeypatch):
    def interrupted(values):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run", interrupted)
    with pytest.raises(SystemExit) as stopped:
        main(["data", "list"])
    assert stopped.value.code == 130
    assert capsys.readouterr().err == "robustcls: interrupted\n"
