"""What a user's own module adds, with no other edit."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import robustcls as rc
from anomaly.cli import main as anomaly_main
from anomaly.detection.registry import METHODS as DETECTORS
from robustcls._command_line import import_named_modules, run_command
from robustcls._registry import Registry
from robustcls._validation import InputError
from robustcls.attacks import ATTACKS, Attack
from robustcls.attacks.loop import LoopedAttack
from robustcls.cli import main
from robustcls.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from robustcls.explanation import METHODS, Explainer, Maps
from robustcls.models import BACKBONES

ROOT = Path(__file__).parents[1]
MINE = """
import keras
import numpy as np

import robustcls as rc
from robustcls.explanation import Maps


class Nudge(rc.attacks.Attack):
    def perturb(self, classifier, images, labels, keys):
        gradients = rc.attacks.loss_gradients(classifier, images, labels)
        return images + 2 * self.epsilon * np.sign(gradients)


@rc.register_corruption(severities=(0.1, 0.2, 0.3, 0.4, 0.5))
def haze(images, strength, seed):
    return (1 - strength) * images + 2 * strength


@rc.register_explanation()
def silhouette(explainer, images, classes):
    return Maps(images.mean(-1))


@rc.register_backbone()
def pebble(images):
    return keras.layers.Conv2D(4, 3, strides=2, activation="relu")(images)
"""


@pytest.fixture(autouse=True)
def forgetting(monkeypatch):
    """What a test registers is gone after it."""
    for registry in (ATTACKS, CORRUPTIONS, METHODS, BACKBONES, DETECTORS):
        dict(registry)  # modules register what is in them once, when they are imported
        monkeypatch.setattr(registry, "_places", dict(registry._places))
        monkeypatch.setattr(registry, "_found", dict(registry._found))
    for scale in SEVERITIES:
        monkeypatch.setitem(SEVERITIES, scale, dict(SEVERITIES[scale]))


@pytest.fixture
def write_module(tmp_path, monkeypatch):
    """A function that writes a module into the current folder, and forgets it afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)

    return write


@pytest.fixture
def mine(write_module):
    write_module("mine", MINE)
    import_named_modules(["--import", "mine"])


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for part in ("train", "test"):
        for name, level in (("dark", 60), ("light", 190)):
            (root / part / name).mkdir(parents=True)
            for index in range(12):
                pixels = generator.normal(level, 30, (12, 12, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{index}.png")
    return root


def fail(capsys, command, *arguments):
    """Runs a command, which must fail; returns its one line."""
    with pytest.raises(SystemExit) as stopped:
        command([str(argument) for argument in arguments])
    assert stopped.value.code == 2
    *notes, line = capsys.readouterr().err.strip().splitlines()
    assert not [note for note in notes if "error" in note or "Traceback" in note]
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


def test_from_python(mine, tmp_path):
    model = rc.build_classifier("pebble", input_shape=(12, 12, 3), num_classes=3)
    assert [layer.name for layer in model.layers if layer.weights] == ["conv2d_1", "logits"]
    images = np.random.default_rng(0).random((9, 12, 12, 3), np.float32)
    labels = model.predict(images, verbose=0).argmax(-1)

    result = ATTACKS["nudge"](epsilon=0.3)(model, images, labels)
    assert np.abs(result.adversarial - images).max() == pytest.approx(0.3, abs=1e-6)
    predicted = model.predict(result.adversarial, verbose=0).argmax(-1)
    np.testing.assert_array_equal(result.success, predicted != labels)
    assert rc.evaluate(
        model, (images, labels), attacks=[ATTACKS["nudge"](epsilon=0.3)], corruptions=None
    ).accuracies == {"clean": 1.0, "nudge": result.robust_accuracy}

    hazy = corrupt(images, "haze", 5, "imagenet_c").numpy()
    np.testing.assert_allclose(hazy, np.minimum(images / 2 + 1, 1))

    maps = Explainer(model, batch_size=4)("silhouette", images, labels)
    np.testing.assert_allclose(maps.positive, images.mean(-1), atol=1e-6)

    model.save(tmp_path / "model.keras")
    BACKBONES._places.pop("pebble")  # what a process without the module knows
    loaded = rc.load_classifier(tmp_path / "model.keras")
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(loaded.predict(images, verbose=0), expected, atol=1e-5)


@pytest.mark.slow
def test_from_the_command_line(write_module, photos, tmp_path, capsys):
    write_module("mine", MINE)
    run = tmp_path / "run"
    flags = ["--import", "mine", "--model.backbone", "pebble", "--epochs", "1"]
    flags += ["--data.name", str(photos), "--batch_size", "8", "--augmentation", "null"]
    main(["train", *flags, "--models", "[base]", "--out", str(run)])
    assert rc.load_classifier(run / "base" / "model.keras").name == "pebble"

    evaluating = ["evaluate", str(run), "--attack", "nudge", "--epsilon", "0.5"]
    evaluating += ["--corruptions", "haze", "--curve_limit", "0", "--batch_size", "8"]
    main([*evaluating, "--import", "mine"])
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["base"]["nudge"] <= metrics["base"]["clean"]
    page = (run / "report" / "evaluation.html").read_text()
    assert "nudge" in page
    assert "haze" in page
    main(["--import", "mine", *evaluating, "--resume"])
    again = json.loads((run / "metrics.json").read_text())
    assert again["base"] == metrics["base"]

    explaining = ["explain", str(run), "--methods", "silhouette", "gradients"]
    explaining += ["--attack", "nudge", "--epsilon", "0.5", "--limit", "3"]
    main([*explaining, "--quality_limit", "3", "--import", "mine"])
    assert "silhouette" in (run / "report" / "explanations.html").read_text()
    with np.load(run / "report" / "maps" / "base.npz") as maps:
        np.testing.assert_allclose(maps["silhouette_positive"], maps["images"].mean(-1), atol=1e-6)
        assert np.abs(maps["adversarial"] - maps["images"]).max() <= 0.5 + 1e-6

    write_module("broken", BROKEN)
    broken = ["--import", "mine", "--import", "broken"]
    capsys.readouterr()
    for kind, command in {
        "attack of no image": ["evaluate", run, "--attack", "trip", "--corruptions", "haze"],
        "corruption": ["evaluate", run, "--attack", "nudge", "--corruptions", "smear"],
        "explanation": ["explain", run, "--methods", "guess", "--attack", "nudge", "--limit", "2"],
        "backbone": ["train", *flags, "--model.backbone", "rubble", "--out", tmp_path / "none"],
    }.items():
        assert fail(capsys, main, *command, *broken) == f"robustcls: error: {failure(kind)}"
    detecting = ["train", "--method", "blind", "--data", photos, "--normal_class", "dark"]
    detecting += ["--image_size", "16", "--channels", "1", "--false_alarm_rate", "0.5"]
    detecting += ["--settings", "{batch_size: 2}", "--out", tmp_path / "detector"]
    assert (
        fail(capsys, anomaly_main, *detecting, *broken) == f"anomaly: error: {failure('detector')}"
    )
    for command in ("evaluate", "explain", "train"):
        with pytest.raises(SystemExit):
            main([command, "--help", "--import", "mine"])
        shown = capsys.readouterr().out
        assert {"evaluate": "haze", "explain": "silhouette", "train": "pebble"}[command] in shown
        listed = re.search(r"Attacks: ([^.]*)\.", " ".join(shown.split()))
        names = set(listed[1].split(", ")) if listed else set()
        assert command == "train" or names >= {"pgd", "fab", "square", "autoattack", "nudge"}


@pytest.mark.long
def test_in_the_contract_tests(write_module, tmp_path):
    write_module("mine", MINE)
    flags = ["-q", "-p", "no:cacheprovider", "-p", "mine", "-c", str(ROOT / "pyproject.toml")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *flags, "tests/attacks/test_attacks.py", "-k", "Nudge"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])},
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert "8 passed" in done.stdout, done.stdout + done.stderr


def hook_of_another_shape(classifier, images, labels, keys):
    return images[:, 1:]


def hook_that_fails(classifier, images, labels, keys):
    raise KeyError("no\nlabel")


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        (hook_of_another_shape, r"perturb of attack 'own' must return finite float32 images of "),
        (hook_that_fails, r"attack 'own' \(.*test_extension.*\.Own\) failed: KeyError: "),
        (lambda c, x, y, k: x + np.float32(np.nan), "must return finite"),
    ],
)
def test_a_hook_that_returns_no_images_is_one_line(hook, message):
    class Own(Attack):
        perturb = staticmethod(hook)

    images = np.full((4, 3, 3, 1), 0.5, np.float32)
    model = keras.Sequential(
        [keras.Input((3, 3, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    labels = model.predict(images, verbose=0).argmax(-1)
    with pytest.raises(InputError, match=message) as caught:
        Own()(model, images, labels)
    assert "\n" not in str(caught.value)


def test_definitions_that_cannot_be(mine):
    def images(*arguments):
        return arguments[0]

    def twice():
        class FGSM(Attack):
            perturb = images

    def unnamed():
        class Own(Attack, name="My attack"):
            perturb = images

    def empty():
        class Own(Attack):
            pass

    def half():
        class Own(LoopedAttack):
            def start(self, batch):
                return {}

    def plain():
        class Own(Attack):
            strength: float = 2.0
            perturb = images

        Own()

    five = (1, 2, 3, 4, 5)
    cases = [
        (
            twice,
            r"'fgsm' is robustcls\.attacks\.fgsm\.FGSM already",
        ),
        (unnamed, "must be lower-case letters"),
        (empty, "attack Own must define perturb; see help"),
        (half, "attack Own must define make_step, step_count; see help"),
        (plain, "attack Own must be decorated with @dataclass.* for its setting 'strength'"),
        (lambda: rc.register_corruption(severities=five, name="fog")(images), "'fog' is robustcls"),
        (lambda: rc.register_corruption(severities=five[:4]), "severities must be five strengths"),
        (lambda: rc.register_explanation("grad_cam")(images), "'grad_cam' is robustcls"),
        (lambda: rc.register_backbone("resnext50")(images), "'resnext50' is robustcls"),
        (lambda: rc.register_backbone(block="conv"), "block must have a group"),
    ]
    for define, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            define()
        assert "\n" not in str(caught.value)


def test_what_comes_back_is_checked():
    @rc.register_corruption(severities=(1, 2, 3, 4, 5))
    def cropped(images, strength, seed):
        return images[:, strength:]

    @rc.register_explanation()
    def signed(explainer, images, classes):
        return Maps(images.mean(-1) - 1)

    @rc.register_backbone()
    def flat(images):
        return keras.layers.Flatten()(images)

    images = np.full((2, 8, 8, 1), 0.5, np.float32)
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    for use, message in [
        (lambda: corrupt(images, "cropped", 2), r"corruption 'cropped' must return images of "),
        (lambda: Explainer(model)("signed", images, [0, 0]), "'signed' must return Maps of finite"),
        (
            lambda: rc.build_classifier("flat", input_shape=(8, 8, 3), num_classes=2),
            r"backbone 'flat' must return a feature map \[N, h, w, C\]",
        ),
    ]:
        with pytest.raises(InputError, match=message) as caught:
            use()
        assert "\n" not in str(caught.value)


BROKEN = """
import keras
import tensorflow as tf

import robustcls as rc
from anomaly import OneClassDetector


class Stumble(rc.attacks.Attack):
    def perturb(self, classifier, images, labels, keys):
        return {}["no\\nlabel"]


@rc.register_corruption(severities=(1, 2, 3, 4, 5))
def smear(images, strength, seed):
    return {}["no\\nlabel"]


@rc.register_explanation()
def guess(explainer, images, classes):
    return {}["no\\nlabel"]


@rc.register_backbone()
def rubble(images):
    return {}["no\\nlabel"]


class Blind(OneClassDetector):
    method = "blind"

    def build(self):
        return {"net": keras.Sequential([keras.Input((16, 16, 1)), keras.layers.Flatten()])}

    def train(self, training):
        pass

    def score_batch(self, images):
        for _ in tf.range(2):
            {}["no\\nlabel"]
        return images[:, 0, 0, 0]


class Trip(rc.attacks.Attack):
    def perturb(self, classifier, images, labels, keys):
        return images

    def rivals(self, num_classes):
        return {}["no\\nlabel"]
"""
# By kind, what the one line names: the class or function, and the line that raises.
FAILURES = {
    "attack": ("attack 'stumble' (broken.Stumble)", 11),
    "attack of no image": ("attack 'trip' (broken.Trip)", 49),
    "corruption": ("corruption 'smear' (broken.smear)", 16),
    "explanation": ("explanation method 'guess' (broken.guess)", 21),
    "backbone": ("backbone 'rubble' (broken.rubble)", 26),
    "detector": ("detector 'blind' (broken.Blind)", 40),
}


def failure(kind):
    what, line = FAILURES[kind]
    return f"{what} failed: KeyError: 'no\\nlabel' (broken.py, line {line})"


@pytest.fixture
def broken(write_module):
    write_module("broken", BROKEN)
    import_named_modules(["--import", "broken"])


@pytest.mark.parametrize("kind", FAILURES)
def test_what_a_users_code_raises_is_one_line_that_names_it(kind, broken):
    images = np.random.default_rng(0).random((200, 16, 16, 1), np.float32)
    model = keras.Sequential(
        [keras.Input((16, 16, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    labels = model.predict(images[:4], verbose=0).argmax(-1)
    use = {
        "attack": lambda: ATTACKS["stumble"]()(model, images[:4], labels),
        "attack of no image": lambda: ATTACKS["trip"]()(model, images[:4], 1 - labels),
        "corruption": lambda: corrupt(images[:4], "smear", 1),
        "explanation": lambda: Explainer(model)("guess", images[:4], labels),
        "backbone": lambda: rc.build_classifier("rubble", input_shape=(16, 16, 3), num_classes=2),
        "detector": lambda: DETECTORS["blind"](image_shape=(16, 16, 1)).fit(images, verbose=0),
    }
    with pytest.raises(InputError) as caught:
        use[kind]()
    # TensorFlow keeps what it traced of the same code in another test's file, and tells that one.
    told = failure(kind).rpartition(" (")[0] if kind == "detector" else failure(kind)
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_users_explanation_function_that_raises_is_named():
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )

    def mine(images, classes):
        raise ValueError("too small")

    with pytest.raises(InputError, match=r"explanation method \(.*mine\) failed: ValueError: too"):
        Explainer(model)(mine, np.zeros((2, 8, 8, 1), np.float32), [0, 1])


def test_what_else_the_module_of_import_raises_is_one_line(write_module, capsys):
    write_module("mine", "def view():\n    return {}['no']\n")

    def command():
        import_named_modules(["--import", "mine"])
        sys.modules["mine"].view()

    with pytest.raises(SystemExit) as stopped:
        run_command("robustcls", command)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == (
        "robustcls: error: what --import named failed: KeyError: 'no' (mine.py, line 2)\n"
    )
    with pytest.raises(ZeroDivisionError):  # a fault of this package is a traceback
        run_command("robustcls", lambda: 1 / 0)


def test_settings_reach_the_attacks_that_take_them():
    settings = {"epsilon": 0.25, "norm": "2", "steps": 7, "restarts": 2, "queries": 9, "seed": 3}
    made = {name: attack.from_settings(settings) for name, attack in ATTACKS.items()}
    assert {(attack.epsilon, attack.norm, attack.seed) for attack in made.values()} == {
        (0.25, "2", 3)
    }
    assert (made["pgd"].steps, made["pgd"].restarts) == (7, 2)
    # Their published numbers of steps are what makes results comparable.
    assert [made[name].steps for name in ("apgd", "fab", "autoattack")] == [100, 100, 100]
    assert made["square"].queries == made["autoattack"].queries == 9
