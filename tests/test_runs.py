import errno
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from robustcls import runs
from robustcls._validation import InputError

CONFIG = {"train": {"epochs": 3, "data": {"name": "a"}}, "data": {"fingerprint": "f"}}


def test_create_and_open(tmp_path):
    runs.Run.create(tmp_path / "new" / "run", {**CONFIG, "versions": {"keras": "3"}})
    run = runs.Run(tmp_path / "new" / "run")
    assert run.config["train"] == CONFIG["train"]
    assert run.trained == []
    for name in ("adversarial", "base"):
        run.folder(name).mkdir()
        (run.folder(name) / "model.keras").touch()
    assert run.trained == ["base", "adversarial"]
    assert runs.Run.open(run) is run
    assert runs.Run.open(run.path).config == run.config


def test_a_trained_model_is_required(tmp_path):
    run = runs.Run.create(tmp_path / "run", CONFIG)
    with pytest.raises(InputError, match=r"must hold a trained model; .*run holds none.*--resume"):
        run.require_trained()
    for name, file in (("base", "model.keras"), ("adversarial", "model.keras"), ("own", "end")):
        run.folder(name).mkdir()
        (run.folder(name) / file).touch()
    assert run.require_trained() == "adversarial"
    assert run.require_trained("base") == "base"
    assert run.require_trained(kind="detector", file="end") == "own"
    with pytest.raises(InputError, match=r"must hold a trained detector.*Was its training"):
        run.require_trained(kind="detector", folder="detector", file="end")
    with pytest.raises(
        InputError, match="model must be one of adversarial, base; received 'bases'"
    ):
        run.require_trained("bases")


def test_an_existing_run_is_kept_unless_asked(tmp_path):
    run = runs.Run.create(tmp_path / "run", CONFIG)
    (run.path / "precious").write_text("x")
    with pytest.raises(InputError, match=r"holds a run. Add --resume .* or --overwrite"):
        runs.Run.create(tmp_path / "run", CONFIG)
    assert (run.path / "precious").exists()
    runs.Run.create(tmp_path / "run", {**CONFIG, "versions": {"keras": "4"}}, resume=True)
    assert (run.path / "precious").exists()
    changed = {**CONFIG, "train": {"epochs": 4, "data": {"name": "a"}}}
    with pytest.raises(InputError, match=r"train.epochs must stay 3 .*; received 4"):
        runs.Run.create(tmp_path / "run", changed, resume=True)
    runs.Run.create(tmp_path / "run", changed, overwrite=True)
    assert not (run.path / "precious").exists()
    with pytest.raises(InputError, match="exclude each other"):
        runs.Run.create(tmp_path / "run", CONFIG, overwrite=True, resume=True)


def test_a_folder_that_is_no_run_is_never_deleted(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    for flags in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(InputError, match="neither"):
            runs.Run.create(tmp_path, CONFIG, **flags)
    assert (tmp_path / "thesis.tex").exists()


def test_bad_runs(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        runs.Run(tmp_path / "none")
    with pytest.raises(InputError, match=r"holds no config\.json"):
        runs.Run(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="must be JSON"):
        runs.Run(tmp_path)


def test_a_failed_write_keeps_the_previous_file(tmp_path):
    path = tmp_path / "metrics.json"
    runs.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        runs.write_json(path, {"a": float("nan")})
    with pytest.raises(RuntimeError), runs.atomic(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    with pytest.raises(InputError, match="No space left on device") as caught, runs.atomic(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert "\n" not in str(caught.value)
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_keeps_the_previous_file(tmp_path):
    """A real write error: the process may not write files beyond 4 KiB."""
    path = tmp_path / "history.csv"
    runs.write_text(path, "old")
    code = (
        "import resource, signal, sys; from robustcls import runs\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "runs.write_text(sys.argv[1], 'x' * 10**6)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert "InputError" in done.stderr
    assert "cannot be written" in done.stderr
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_kill_in_mid_write_keeps_the_previous_file(tmp_path):
    path = tmp_path / "model.bin"
    runs.write_text(path, "old")
    code = (
        "import sys, time; from robustcls import runs\n"
        "with runs.atomic(sys.argv[1]) as temporary:\n"
        "    file = open(temporary, 'w'); file.write('half'); file.flush()\n"
        "    print('writing', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "writing\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert path.read_text() == "old"


def test_a_file_is_replaced_in_one_step(tmp_path):
    """Who reads the old one meanwhile reads on: nothing is written over it."""
    path = tmp_path / "metrics.json"
    runs.write_text(path, "old")
    with open(path) as reading:
        runs.write_text(path, "newer and longer")
        assert reading.read() == "old"
    assert path.read_text() == "newer and longer"


def test_the_new_file_is_on_the_disk_before_it_takes_the_place_of_the_old(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(os, "fsync", lambda file: done.append("written"))
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *names: done.append("replaced") or replace(*names))
    runs.write_text(tmp_path / "metrics.json", "new")
    assert done == ["written", "replaced"]
