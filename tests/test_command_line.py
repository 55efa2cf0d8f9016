"""One syntax in both commands: lists, fractions, data, switches, near flags, resuming, piping."""

import importlib.util
import json
import subprocess
import sys
import typing

import pytest
import yaml

import anomaly.cli
import robustcls
import robustcls.cli
from robustcls._command_line.naming import in_flags
from robustcls._command_line.values import is_list, is_mapping, kind_of_entries, kinds_of
from robustcls._validation import InputError

MAINS = {"robustcls": robustcls.cli.main, "anomaly": anomaly.cli.main}


def top_parser(program):
    return robustcls.cli.parser()[0] if program == "robustcls" else anomaly.cli.parser()


def leaves(parser, path=()):
    """Yields the words and the parser of each command."""
    if parser._subcommands_action is None:
        yield path, parser
        return
    for name, below in parser._subcommands_action.choices.items():
        yield from leaves(below, (*path, name))


PARSERS = {
    (program, *path): parser for program in MAINS for path, parser in leaves(top_parser(program))
}
# What a command needs beside the flag under test.
NEEDED = {
    "name": "mnist", "image": "a.png", "run": "runs/mine", "folder": "exports", "out": "runs/mine",
    "method": "memae", "data": "mnist", "normal_class": "1", "methods": "memae",
    "images": "a.png", "film": "walk.mp4", "model": "model.keras", "epsilon": "0.1",
}  # fmt: skip


def every(wanted):
    """Returns each flag of each command whose argument is wanted."""
    return [
        pytest.param(command, action, id=f"{' '.join(command)} {action.dest}")
        for command, parser in PARSERS.items()
        for action in parser._actions
        if action.option_strings and wanted(action)
    ]


def parse(command, *given, but=None):
    """Returns a command's settings, what it needs filled in but for one."""
    needed = []
    for action in PARSERS[command]._actions:
        if not action.option_strings:
            needed.append(NEEDED[action.dest])
        elif (
            action.dest != but
            and action.default is None
            and kinds_of(action)
            and type(None) not in kinds_of(action)
        ):
            needed += [f"--{action.dest}", NEEDED[action.dest]]
    return PARSERS[command].parse_args([*needed, *map(str, given)])


def words_for(action):
    """Returns two words for a list, and what they stand for."""
    (kind,) = (kind for kind in kinds_of(action) if typing.get_args(kind))
    inner = kind_of_entries(kind)
    words = {str: ["b", "a"], int: ["3", "1"], float: ["0", "255"]}[inner]
    return words, [inner(word) for word in words]


@pytest.mark.parametrize(("command", "action"), every(is_list))
def test_each_list_takes_every_syntax(command, action, tmp_path):
    dest = action.dest
    (first, second), wanted = words_for(action)
    for given in (
        [first, second],
        [f"{first},{second}"],
        [f"{first}, {second}"],
        [f"[{first},{second}]"],
        [f"[{first},", f"{second}]"],
    ):
        assert list(parse(command, f"--{dest}", *given, but=dest)[dest]) == wanted, given
    assert list(parse(command, f"--{dest}={first},{second}", but=dest)[dest]) == wanted
    if "--config" in PARSERS[command]._option_string_actions:
        file = tmp_path / "settings.yaml"
        for value in (wanted, f"{first},{second}"):
            file.write_text(yaml.safe_dump({dest: value}))
            assert list(parse(command, "--config", file, but=dest)[dest]) == wanted


@pytest.mark.parametrize(("command", "action"), every(is_list))
def test_a_mixed_or_broken_list_is_refused(command, action):
    dest = action.dest
    (first, second), _ = words_for(action)
    for given in (
        [f"{first},", second],
        [f"{first},{second}", first],
        [first, f"[{second}]"],
        [f"[{first}", second],
        [f"{first},,{second}"],
    ):
        with pytest.raises(InputError, match="a b, a,b or") as error:
            parse(command, f"--{dest}", *given, but=dest)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=f"{dest} needs a value"):
        parse(command, f"--{dest}", but=dest)


def test_a_list_of_one_and_a_run_after_a_list():
    assert parse(("robustcls", "train"), "--models", "base").models == ("base",)
    top = top_parser("robustcls")
    for given in (["fgsm", "pgd", "RUN"], ["fgsm,pgd", "RUN"], ["[fgsm,pgd]", "RUN"]):
        found = top.parse_args(["evaluate", "--attack", *given]).evaluate
        assert (found.run, list(found.attack)) == ("RUN", ["fgsm", "pgd"])
    assert top.parse_args(["explain", "--images", "a.png", "RUN"]).explain.run == "RUN"
    assert top.parse_args(["certify", "RUN", "--input_range", "-1", "1"]).certify.input_range == (
        -1,
        1,
    )


@pytest.mark.parametrize(("command", "action"), every(lambda action: float in kinds_of(action)))
def test_each_number_takes_fractions(command, action, tmp_path):
    dest = action.dest
    assert parse(command, f"--{dest}", "8/255")[dest] == 8 / 255
    assert parse(command, f"--{dest}=1e-3")[dest] == 1e-3
    for wrong in ("8/0", "8/255x", "many"):
        with pytest.raises(InputError, match=f"{dest} must be a number like .*{wrong}"):
            parse(command, f"--{dest}", wrong)
    if "--config" in PARSERS[command]._option_string_actions:
        file = tmp_path / "settings.yaml"
        file.write_text(f"{dest}: 8/255\n")
        settings = {dest.rpartition(".")[2]: "8/255"}
        for group in reversed(dest.split(".")[:-1]):
            settings = {group: settings}
        file.write_text(yaml.safe_dump(settings))
        assert parse(command, "--config", file)[dest] == 8 / 255


def takes_any_settings(action):
    return is_mapping(action) and any(
        typing.Any in typing.get_args(kind) for kind in kinds_of(action)
    )


@pytest.mark.parametrize(("command", "action"), every(takes_any_settings))
def test_settings_by_name_take_lists_and_fractions(command, action):
    dest = action.dest
    given = (f"--{dest}.rate", "1/4", f"--{dest}.names", "a", "b", f"--{dest}.sizes=8,16")
    assert parse(command, *given)[dest] == {"rate": 0.25, "names": ["a", "b"], "sizes": [8, 16]}
    assert parse(command, f"--{dest}", "{a: {b: 1/4}}")[dest] == {"a": {"b": 0.25}}


def switches(action):
    return bool in kinds_of(action)


@pytest.mark.parametrize(("command", "action"), every(switches))
def test_switches_are_bare(command, action):
    if action.dest != "resume":
        assert parse(command, f"--{action.dest}")[action.dest] is True
        assert parse(command, f"--{action.dest}", "true")[action.dest] is True
    with pytest.raises(InputError, match="perhaps"):
        parse(command, f"--{action.dest}", "perhaps")
    if action.default:
        assert parse(command, f"--{action.dest}", "false")[action.dest] is False


def test_data_has_one_flag_in_both_commands(tmp_path):
    spellings = {
        "flags": ["--data", "photos/", "--image-size", "8", "--skip-bad-images"],
        "nested": ["--data.name", "photos/", "--data.image_size=8", "--data.skip_bad_images"],
    }
    (tmp_path / "a.yaml").write_text("data: photos/\nimage_size: 8\nskip_bad_images: true\n")
    nested = {"name": "photos/", "image_size": 8, "skip_bad_images": True}
    (tmp_path / "b.yaml").write_text(yaml.safe_dump({"data": nested}))
    spellings |= {name: ["--config", tmp_path / f"{name}.yaml"] for name in "ab"}
    for given in spellings.values():
        given = robustcls.cli.with_underscores(map(str, given))
        data = parse(("robustcls", "train"), *given).data
        assert (data.name, data.image_size, data.skip_bad_images) == ("photos/", 8, True)
        found = parse(("anomaly", "train"), *given, but="data")
        assert (found.data, found.image_size, found.skip_bad_images) == ("photos/", 8, True)
    for command in PARSERS:
        if any(action.dest in ("data", "data.name") for action in PARSERS[command]._actions):
            for flag in ("--data", "--data.name"):
                found = parse(command, flag, "photos/", but="data").data
                assert getattr(found, "name", found) == "photos/"


@pytest.mark.parametrize("command", PARSERS, ids=" ".join)
def test_flags_are_written_out_and_a_near_one_is_named(command):
    for flag in PARSERS[command]._option_string_actions:
        if (
            len(flag) < 6
            or flag.endswith("+")
            or flag[:-1] in PARSERS[command]._option_string_actions
        ):
            continue
        with pytest.raises(InputError, match=r"no flag of this command. Did you mean '--") as error:
            parse(command, flag[:-1], "1", but=flag[2:])
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "robustcls train --out X --epoch 2",
            "--epoch is no flag of this command. Did you mean '--epochs'?",
        ),
        ("robustcls train --out X --step_size 1", "Did you mean '--adversarial.step_size'?"),
        ("robustcls train --out X -e 2", "-e is no flag of this command"),
        ("robustcls train --out X --resume", "X does not exist"),
        ("robustcls train --out X --epochs", "epochs needs a value"),
        ("robustcls train --out X --model.alpha wide", "model.alpha must be a number"),
        (
            "robustcls train --out X --augmentation flip",
            "augmentation must be settings like {a: 1}",
        ),
        ("robustcls train --out X --augmentation {flip", "augmentation must be YAML"),
        ("robustcls train --out X --config .", "config: Path is not a file"),
        (
            "robustcls train --out X --model base",
            "model must be settings like {a: 1}; received 'base'. Did you mean '--models'?",
        ),
        ("robustcls train --out X base", "'base' belongs to no flag"),
        ("robustcls train", "--out must be given"),
        ("robustcls --epochs 2 train", "--epochs must follow the command"),
        ("robustcls --verson", "Did you mean '--version'?"),
        ("robustcls evalute RUN", "Did you mean 'evaluate'?"),
        ("robustcls data", "COMMAND must be one of list, prepare, show; received none."),
        ("robustcls data show", "name is required"),
        ("robustcls certify RUN --input-range 0 1 2", "input_range must be 2 values; received 3"),
        ("robustcls certify RUN --resume=no", "resume must be true or false; received 'no'"),
        ("anomaly train --method memae --out X", "--data must be given"),
        (
            "anomaly benchmark --data X --methods memae --classes one --out X",
            "classes must be an integer",
        ),
        ("anomaly benchmark --data X --out X --methods", "methods needs a value"),
        ("anomaly boxes RUN --out X", "--images must be given"),
    ],
)
def test_wrong_input_is_one_clear_line(given, message, capsys):
    program, *words = given.split()
    with pytest.raises(SystemExit) as stopped:
        MAINS[program](words)
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{program}: error: ")
    assert message in line


def test_a_file_may_name_the_run(tmp_path):
    (tmp_path / "mine.yaml").write_text("run: runs/mine\nepsilon: 1/4\nattack: fgsm\n")
    given = ["evaluate", "--config", str(tmp_path / "mine.yaml"), "--epsilon", "1/8"]
    found = top_parser("robustcls").parse_args(given).evaluate
    assert (found.run, found.epsilon, list(found.attack)) == ("runs/mine", 1 / 8, ["fgsm"])


def test_a_wrong_setting_in_a_file_is_named_with_the_file(tmp_path):
    file = tmp_path / "mine.yaml"
    for text, message in (
        ("epohs: 3", "mine.yaml: epohs is no setting here. Did you mean 'epochs'?"),
        (
            "model: {bakbone: x}",
            "mine.yaml: model.bakbone is no setting here. Did you mean 'model.backbone'?",
        ),
        ("epochs: many", "mine.yaml: epochs must be an integer; received 'many'."),
        ("models: base,,x", "mine.yaml: models must be a list"),
        ("[a", "config must be YAML; mine.yaml"),
        ("words", "config must hold settings"),
    ):
        file.write_text(text)
        with pytest.raises(InputError) as error:
            parse(("robustcls", "train"), "--config", file)
        assert message in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("program", MAINS)
def test_version_modules_and_help(program, capsys):
    with pytest.raises(SystemExit) as stopped:
        MAINS[program](["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"{program} {robustcls.__version__}\n"
    for more, shown in (["--help"], "--print_completion"), (["train", "--help"], "--resume"):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", program, *more],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert f"usage: {program}" in done.stdout
        assert shown in done.stdout
        assert "| tensorflow" not in done.stderr
    assert "8/255" in PARSERS[program, "train"].format_help()


@pytest.mark.skipif(importlib.util.find_spec("shtab") is None, reason="needs shtab")
@pytest.mark.parametrize("program", MAINS)
def test_completion_knows_the_commands(program, capsys):
    with pytest.raises(SystemExit) as stopped:
        MAINS[program](["--print_completion", "shtab-bash"])
    assert stopped.value.code == 0
    assert "evaluate" in capsys.readouterr().out


def test_resume_takes_the_settings_of_the_run(tmp_path):
    config = {
        "train": {
            "data": {"name": "photos/", "image_size": 8},
            "adversarial": {"epsilon": 0.25},
            "augmentation": {"hue": 0.1},
            "epochs": 7,
            "models": ["base"],
        }
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evaluate_settings.json").write_text('{"attack": ["fgsm"], "trust": true}')
    (tmp_path / "certify_settings.json").write_text('{"sigma": 0.5}')
    found = top_parser("robustcls").parse_args(["train", "--out", str(tmp_path), "--resume"]).train
    assert (found.data.name, found.data.image_size, found.epochs) == ("photos/", 8, 7)
    assert found.adversarial.epsilon == 0.25
    assert found.augmentation == {"hue": 0.1}
    assert list(found.models) == ["base"]
    for words, wanted in (([], ["fgsm"]), (["--attack", "pgd"], ["pgd"])):
        given = ["evaluate", str(tmp_path), "--resume", *words]
        found = top_parser("robustcls").parse_args(given).evaluate
        assert (list(found.attack), found.trust) == (wanted, True)
    found = top_parser("robustcls").parse_args(["certify", str(tmp_path), "--resume"]).certify
    assert found.sigma == 0.5
    with pytest.raises(InputError, match="holds no config"):
        parse(("robustcls", "train"), "--out", tmp_path.parent, "--resume", but="out")


def test_a_run_that_is_not_there_yet_begins_with_resume_and_settings():
    found = parse(("robustcls", "train"), "--out", "X", "--resume", "--epochs", "3", but="out")
    assert (found.epochs, found.resume) == (3, True)


def test_a_training_resumes_without_settings_and_tells_its_epochs_in_lines(tmp_path, capsys):
    given = ["train", "--method", "autoencoder", "--data", "fashion_mnist_mini"]
    given += ["--normal-class", "1", "--epochs", "1", "--settings.batch_size", "300"]
    out = str(tmp_path / "run")
    anomaly.cli.main([*given, "--out", out])
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith("Epoch ")]
    assert line.startswith("Epoch 1/1: loss ")
    assert lines[-1] == out
    detector = tmp_path / "run" / "detector"
    detector.rename(tmp_path / "first")
    with pytest.raises(SystemExit):
        anomaly.cli.main(["train", "--out", out, "--resume", "--epochs", "2"])
    assert "epochs must stay 1 to resume the run; received 2" in capsys.readouterr().err
    assert not detector.exists()
    anomaly.cli.main(["train", "--out", out, "--resume"])
    assert "Epoch" not in capsys.readouterr().out
    assert detector.exists()


@pytest.mark.parametrize(
    ("command", "given", "message"),
    [
        (["train"], "--resume", "--resume must come with --out"),
        (["boxes"], "run", "--images, --out must be given; see --help."),
        (["train"], "--objectives trades", r"received 'trades'\. Did you mean '--objective'\?"),
        (["train"], "--models base,pgd trades", "'trades' belongs to no flag"),
    ],
)
def test_what_is_left_out_or_mixed_is_one_line(command, given, message):
    program = "anomaly" if command == ["boxes"] else "robustcls"
    with pytest.raises(InputError, match=message) as caught:
        PARSERS[(program, *command)].parse_args(given.split())
    assert "\n" not in str(caught.value)


def test_settings_of_objectives_have_a_flag_that_is_not_a_letter_away():
    for flag in ("--objective_settings", "--objectives"):
        settings = parse(("robustcls", "train"), flag, "{trades: {beta: 6}}")
        assert settings.objectives == {"trades": {"beta": 6}}


# Commands that read images without the flag: a run does as it was trained, its settings say it, or
# there are no files of the user's.
AS_TRAINED = {
    *(("robustcls", name) for name in ("merge", "figure")),
    *(("anomaly", name) for name in ("evaluate", "export", "frames", "merge", "video")),
    ("robustcls", "data", "list"),
    ("robustcls", "data", "prepare"),
}


def test_every_command_that_reads_images_can_skip_bad_ones():
    def reads(parser):
        names = {action.dest.rpartition(".")[2] for action in parser._actions}
        return bool(names & {"data", "images", "far"} or {"name", "image_size"} <= names)

    without = [
        command
        for command, parser in PARSERS.items()
        if reads(parser)
        and not any(flag.endswith("skip_bad_images") for flag in parser._option_string_actions)
    ]
    assert set(without) <= AS_TRAINED
    assert len(PARSERS) - len(without) >= 12


FLAGS = {name: f"--{name}" for name in ("input_range", "output", "skip_bad_images", "methods")}
FLAGS |= {"weights": "--model.weights", "image_size": "--image_size", "version": "--version"}


@pytest.mark.parametrize(
    ("message", "typed"),
    [
        ("Did you mean input_range=(0, 255)?", "Did you mean --input_range 0 255?"),
        ("Did you mean input_range=(-1, 1)?", "Did you mean --input_range -1 1?"),
        ("Did you mean output='scores'?", "Did you mean --output scores?"),
        ("methods=['gradients', 'rise']?", "--methods gradients rise?"),
        ("or pass weights=None.", "or pass --model.weights null."),
        ("or set skip_bad_images to go on", "or set --skip_bad_images to go on"),
        ("Pass a smaller image_size.", "Pass a smaller --image_size."),
        (
            "input_range must be two, unless image_size is",
            "--input_range must be two, unless --image_size is",
        ),
        ("use skip_bad_images=True.", "use --skip_bad_images."),
        ("use skip_bad_images=False.", "use --skip_bad_images false."),
        # Neither a call of Python's, nor what has no flag, nor a word, nor a path.
        *(
            2 * (words,)
            for words in ("AutoAttack(version='rand')", "loss=None", "set output aside")
        ),
        *(2 * (words,) for words in ("it is output", "runs/output=a/x")),
    ],
)
def test_messages_say_what_to_type(message, typed):
    assert in_flags(message, FLAGS) == typed


@pytest.mark.parametrize("program", MAINS)
def test_a_command_names_its_own_flags(program, monkeypatch, capsys):
    def fail(*_, **__):
        raise InputError("Did you mean input_range=(0, 255), or skip_bad_images=True?")

    monkeypatch.setattr("robustcls.commands.explanation._arguments", fail)
    monkeypatch.setitem(anomaly.cli._COMMANDS, "score", fail)
    given = {"robustcls": "explain RUN", "anomaly": "score RUN --images a --out b"}[program]
    with pytest.raises(SystemExit):
        MAINS[program](given.split())
    printed = capsys.readouterr().err
    assert "or --skip_bad_images?" in printed
    assert ("--input_range 0 255" in printed) == (program == "robustcls")
