"""What a user's own module adds, with no other edit."""

import sys

import pytest

from anomaly.cli import main as anomaly_main
from robustcls._registry import Registry
from robustcls._validation import InputError
from robustcls.cli import main


@pytest.fixture
def write_module(tmp_path, monkeypatch):
    """A function that writes a module into the current folder, and forgets it afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)

    return write


def fail(capsys, command, *arguments):
    """Runs a command, which must fail; returns its one line."""
    with pytest.raises(SystemExit) as stopped:
        command([str(argument) for argument in arguments])
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


@pytest.mark.parametrize("command", [main, anomaly_main])
def test_a_module_is_imported_wherever_the_flag_stands(command, capsys, write_module):
    write_module("mine_first", "print('first is here')")
    write_module("mine_second", "print('second is here')")
    with pytest.raises(SystemExit) as stopped:
        command(["train", "--import", "mine_first", "--help", "--import=mine_second"])
    assert stopped.value.code == 0
    assert "first is here\nsecond is here\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\nraise KeyError('gone\\naway')", "KeyError: 'gone\\naway' (broken.py, line 2)"),
        ("def", "SyntaxError: invalid syntax (broken.py, line 1)"),
        ("import sys; sys.exit(3)", "SystemExit: 3 (broken.py, line 1)"),
        ("import mising_package", "No module named 'mising_package' (broken.py, line 1)"),
    ],
)
def test_a_module_that_fails_is_one_line(capsys, write_module, text, message):
    write_module("broken", text)
    line = fail(capsys, main, "evaluate", "run", "--import", "broken")
    assert line.startswith("robustcls: error: --import broken failed: ")
    assert message in line
    assert "broken" not in sys.modules


def test_what_is_no_module_is_one_line(capsys, write_module):
    write_module("mine", "")
    assert "'mime'" in fail(capsys, anomaly_main, "train", "--import", "mime")
    assert "Did you mean mine?" in fail(capsys, main, "--import", "mine.py", "train")
    assert "must be the name of a module" in fail(capsys, main, "train", "--import")


def test_registry_of_names():
    registry = Registry("colour", {"red": "collections:OrderedDict"}, reserved=("none",))

    def green():
        pass

    again = type(green)(green.__code__, {}, "green")
    again.__qualname__, again.__module__ = green.__qualname__, green.__module__
    registry.add("green", green)
    registry.add("green", again)
    assert list(registry) == ["red", "green"]
    assert registry["green"] is again
    assert registry["red"].__name__ == "OrderedDict"
    assert registry.get("blue") is None
    for name, message in [
        ("red", "name of the colour must be new; 'red' is collections.OrderedDict already"),
        ("none", "'none' is a setting already"),
        ("Dark Green", "must be lower-case letters, digits, '_' and '-'; received 'Dark Green'"),
    ]:
        with pytest.raises(InputError, match=message) as caught:
            registry.add(name, green)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"must be one of green, red; received 'gren'\. Did you"):
        registry.find("gren")
