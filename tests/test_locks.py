"""One process in a run folder; what a killed one leaves; signals; what the system refuses."""

import errno
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from robustcls import InputError
from robustcls._command_line import resumable, run_command
from robustcls._memory import within_memory
from robustcls.data import storage
from robustcls.reports.evaluations import evaluating
from robustcls.runs import Run

CONFIG = {"train": {"epochs": 3}}
HOLD = """
import sys, time
from robustcls.runs import Run
with Run.creating(sys.argv[1], {"train": {"epochs": 3}}):
    print("held", flush=True)
    time.sleep(60)
"""


def start(code, *arguments):
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test under `nohup` inherits that hang-ups are ignored.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
    process.stdout.readline()
    return process


def test_a_run_is_one_process_until_that_is_gone_however(tmp_path):
    out = tmp_path / "run"
    process = start(HOLD, out)
    for flags in ({"resume": True}, {"overwrite": True}):
        with (
            pytest.raises(InputError, match=f"must not be in use; .*by process {process.pid} on"),
            Run.creating(out, CONFIG, **flags),
        ):
            pass
    with pytest.raises(InputError, match="must not be in use"), evaluating(out):
        pass
    assert (out / "config.json").is_file()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with Run.creating(out, CONFIG, resume=True) as run:
        assert run.config["train"] == CONFIG["train"]


def test_evaluations_share_a_run_and_shards_an_evaluation(tmp_path):
    run = Run.create(tmp_path / "run", CONFIG)
    with evaluating(run.path), evaluating(run.path / "evaluations" / "strict"):
        with pytest.raises(InputError, match="in use"), evaluating(run.path):
            pass
        with (
            pytest.raises(InputError, match="in use"),
            Run.creating(run.path, CONFIG, overwrite=True),
        ):
            pass
    shard = evaluating(run.path, shared=True)
    refused = pytest.raises(InputError, match="in use")
    with shard, evaluating(run.path, shared=True), refused, evaluating(run.path):
        pass


def test_a_kill_while_a_run_is_overwritten_leaves_a_run(tmp_path, monkeypatch):
    run = Run.create(tmp_path / "run", CONFIG)
    for name in ("base", "adversarial"):
        (run.folder(name)).mkdir()
        (run.folder(name) / "model.keras").touch()
    delete = shutil.rmtree

    def killed(path, *more, **settings):
        delete(path, *more, **settings)
        raise KeyboardInterrupt

    other = {"train": {"epochs": 4}}
    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        Run.create(run.path, other, overwrite=True)
    monkeypatch.undo()
    assert len(Run(run.path).trained) == 1
    with pytest.raises(InputError, match=r"epochs must stay 3 to resume the run; received 4"):
        Run.create(run.path, other, resume=True)
    with pytest.raises(InputError, match=r"holds a run\. Add --resume .* or --overwrite"):
        Run.create(run.path, other)
    assert Run.create(run.path, other, overwrite=True).trained == []


def test_what_a_process_killed_at_once_leaves_is_no_content(tmp_path):
    (tmp_path / "run" / ".writing-x").mkdir(parents=True)
    (tmp_path / "run" / ".lock").touch()
    with Run.creating(tmp_path / "run", CONFIG) as run:
        assert not (run.path / ".writing-x").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_command_with_a_line(number, tmp_path):
    code = (
        "import sys, time\n"
        "from robustcls._command_line import resumable, run_command\n"
        "from robustcls.runs import Run, atomic\n"
        "def work():\n"
        "    with resumable('robustcls', sys.argv[1]), Run.creating(sys.argv[1], {}) as run:\n"
        "        with atomic(run.path / 'file') as path:\n"
        "            path.write_text('half')\n"
        "            print('ready', flush=True)\n"
        "            time.sleep(60)\n"
        "run_command('robustcls', work)\n"
    )
    process = start(code, tmp_path / "run")
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert said.split("\n")[1:] == [
        f"robustcls: {tmp_path / 'run'} keeps every finished epoch and result; --resume goes on",
        f"robustcls: ended by {signal.Signals(number).name}",
        "",
    ]
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"config.json", ".lock"}


def test_a_signal_that_is_ignored_stays_ignored(monkeypatch):
    seen = []
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run_command("robustcls", lambda: seen.append(signal.getsignal(signal.SIGHUP)))
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    assert seen == [signal.SIG_IGN]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def exhausted(words):
    return tf.errors.ResourceExhaustedError(None, None, words)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/d/f"), "/d/f: No space .*Make room on"),
        (OSError(errno.EROFS, "Read-only file system", "/d/f"), "/d/f: Read-only .*can be written"),
        (PermissionError(errno.EACCES, "Permission denied", "/d"), "/d: Permission denied. Choose"),
        (OSError(errno.EMFILE, "Too many open files"), r"Too many .*ulimit -n"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/d"), "/d: No such file"),
        (
            OSError("Can't write data (errno = 28, No space left on device)"),
            "Can't write .*Make ro",
        ),
        (MemoryError("Unable to allocate 9 GiB"), r"memory .*\(Unable to .*smaller batch_size"),
        (exhausted("OOM when allocating tensor\nmore"), r"\(OOM when allocating tensor\)\. Take a"),
        (exhausted("/d/f; No space left on device"), "/d/f; No space left on device. Make room"),
        (tf.errors.UnknownError(None, None, "x: Read-only file system"), "Read-only .*Choose"),
    ],
)
def test_what_the_system_refuses_is_one_line(error, line, capsys):
    def command():
        raise error

    with pytest.raises(SystemExit) as left:
        run_command("robustcls", command)
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("robustcls: error: ")
    assert len(said.splitlines()) == 1
    assert pytest.raises(AssertionError, match=line).matches(AssertionError(said))


def test_errors_of_ours_are_no_lines():
    for error in (KeyError("a"), tf.errors.InvalidArgumentError(None, None, "shapes")):

        def command(error=error):
            raise error

        with pytest.raises(type(error)):
            run_command("robustcls", command)


def test_want_of_memory_suggests_a_batch_size():
    suggested = r"batch_size must be smaller .*; received 128\. Try 64,"
    with pytest.raises(InputError, match=suggested), within_memory(128):
        raise exhausted("OOM when allocating tensor with shape[128,9]")
    with pytest.raises(tf.errors.ResourceExhaustedError), within_memory(128):
        raise exhausted("/d/f; No space left on device")


def test_an_interrupted_run_says_how_to_go_on(tmp_path, capsys):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), resumable("anomaly", str(tmp_path)):
            raise KeyboardInterrupt
        Run.create(tmp_path, CONFIG, resume=True)
    assert capsys.readouterr().err.count("--resume goes on") == 1


def test_room_on_disk_is_taken_before_it_is_filled(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(storage, "MEMORY_LIMIT", 0)
    asked = []
    take = os.posix_fallocate
    monkeypatch.setattr(
        os, "posix_fallocate", lambda *given: asked.append(given[1:]) or take(*given)
    )
    images = storage.allocate((5, 4, 4, 3))
    assert isinstance(images, np.memmap)
    assert asked == [(0, 240)]

    def full(*given):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InputError, match=r"does not give them \(No space left on device\)\. Pass"):
        storage.allocate((5, 4, 4, 3))
    assert not list((tmp_path / "robustcls").iterdir())
