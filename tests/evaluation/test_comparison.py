"""Two models from file to report, with class names that are not to be trusted."""

import dataclasses
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import keras
import numpy as np
import pytest

from robustcls import InputError, cli
from robustcls.classifiers.adapters import classifier_of
from robustcls.distribution.parts import Ledger
from robustcls.evaluation.reports.report import render
from robustcls.evaluation.runs.certification import certify_models
from robustcls.evaluation.runs.comparison import evaluate_models
from robustcls.evaluation.runs.config import EvaluationConfig
from robustcls.evaluation.runs.models import ModelsAndImages, StoredModel, find_models
from robustcls.evaluation.smoothing.config import SmoothingConfig

NAMES = ("<script>alert(1)</script>", "a & b", *(f"class {at}" for at in range(2, 10)))
CONFIG = EvaluationConfig(
    epsilon=0.1,
    steps=4,
    limit=60,
    curve_limit=20,
    batch_size=64,
)


@pytest.fixture(scope="module")
def loaded():
    """The names of the models, each time one was loaded."""
    return []


@pytest.fixture(scope="module")
def evaluated(honest, overfitted, splits, tmp_path_factory, loaded):
    def stored(name, model):
        return StoredModel(name, name[::-1], lambda: loaded.append(name) or model)

    return ModelsAndImages(
        title="run <1>",
        folder=tmp_path_factory.mktemp("run"),
        models=(stored("base", overfitted), stored("adversarial", honest)),
        test=splits.test.take(np.arange(80)),
        class_names=NAMES,
        source="a set",
        fingerprint="0123",
        trained_on=("poisson",),
        training_seed=7,
    )


@pytest.fixture(scope="module")
def config(evaluated, tmp_path_factory):
    """With shot noise and fog from files, which are quicker than all corruptions."""
    folder = tmp_path_factory.mktemp("corrupted")
    images = np.tile(evaluated.test.images[:20], (5, 1, 1, 1))
    np.save(folder / "labels.npy", evaluated.test.labels[:20])
    np.save(folder / "fog.npy", images // 2)
    np.save(folder / "shot_noise.npy", images // 3)
    return dataclasses.replace(CONFIG, corruptions=str(folder))


@pytest.fixture(scope="module")
def metrics(evaluated, config):
    return evaluate_models(evaluated, config)


def test_metrics_hold_everything(evaluated, metrics, honest):
    assert metrics == json.loads((evaluated.folder / "metrics.json").read_text())
    assert metrics["complete"]
    assert metrics["models"] == ["base", "adversarial"]
    images, labels = evaluated.test.float_images(), evaluated.test.labels
    predicted = honest.predict(images, verbose=0).argmax(-1)
    found = metrics["adversarial"]
    assert set(found) == {
        "clean", "gaussian", "poisson", "salt_and_pepper", "fgsm", "pgd4", "epsilon",
    }  # fmt: skip
    assert found["clean"] == pytest.approx((predicted == labels).mean())
    assert found["pgd4"] <= found["fgsm"] <= found["clean"]
    assert metrics["intervals"]["base"]["pgd4"]["count"] == 60
    confusion = np.array(metrics["confusion"]["adversarial"])
    assert confusion.sum() == 80
    assert np.trace(confusion) == (predicted == labels).sum()
    np.testing.assert_array_equal(confusion.sum(1), np.bincount(labels, minlength=10))
    for name, row in zip(NAMES, metrics["classes"]["adversarial"], strict=True):
        assert row["name"] == name
        assert row["right"]["pgd4"] <= row["count"]["pgd4"]
    assert sum(row["right"]["pgd4"] for row in metrics["classes"]["adversarial"]) == round(
        60 * found["pgd4"]
    )
    calibration = metrics["calibration"]["adversarial"]
    assert set(calibration) == set(found) - {"epsilon"}
    assert calibration["clean"]["accuracy"] == pytest.approx(found["clean"])
    epsilons, accuracies = zip(*metrics["accuracy_over_epsilon"]["adversarial"], strict=True)
    assert epsilons == pytest.approx(np.arange(17) / 80)
    assert list(accuracies) == sorted(accuracies, reverse=True)
    distance = metrics["median_distance"]["adversarial"]
    assert (
        np.interp(distance, epsilons, accuracies) == pytest.approx(0.5, abs=0.1) or distance > 0.2
    )
    assert metrics["corruptions"]["base"]["mce"] == 1
    assert metrics["corruptions"]["adversarial"]["reference"] == "base"
    assert metrics["corruptions"]["adversarial"]["trained_on"] == ["shot_noise"]
    assert metrics["settings"]["seed"] == 0
    assert metrics["training_seed"] == 7
    assert repr(metrics).startswith("Metrics(base classifies ")
    html = metrics._repr_html_()
    assert len(html) < 3000
    assert "report/evaluation.html" in html


class Outline(HTMLParser):
    """Counts the elements of a page and gathers what they refer to."""

    def __init__(self):
        super().__init__()
        self.tags, self.references, self.open = [], [], []

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.references += [value for key, value in attrs if key in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_report_is_one_escaped_file(evaluated, metrics):
    written = (evaluated.folder / "report" / "evaluation.html").read_text()
    checks = [
        {"number": at, "name": "name", "status": status, "evidence": "5 < 6", "advice": "x & y"}
        for at, status in enumerate(("pass", "fail", "warning", "skipped"), start=1)
    ]
    found = {"summary": "1 of 4", "believable": False, "count": 9, "checks": checks}
    page = render({**metrics, "trust": dict.fromkeys(metrics["models"], found)})
    assert page.count("not to be believed") == 2
    assert page.count("x &amp; y") == 6
    outline = Outline()
    outline.feed(page)
    assert not outline.open
    # Eight images of each model, before and after, and the change.
    assert written.count("data:image/png") == 2 * 8 * 3
    assert "8 of the\n60 attacked images, chosen at random" in written
    assert all(address.startswith("data:") for address in outline.references)
    assert re.findall(r"\d+ images. What falls within", written) == ["20 images. What falls within"]
    assert "The mean over 2 corruptions. 20 images." in written
    assert "script" not in outline.tags
    assert "http" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "a &amp; b" in page
    assert "run &lt;1&gt;" in page
    assert 'name="viewport"' in page
    # Two curves, the front, and a reliability plot for each model, beside their legends.
    assert outline.tags.count("figure") == 5
    # Clean and attacked, for each model.
    assert page.count('class="matrix"') == 4
    assert len(re.findall(r"Confusion, under \w+ \(60 images\)", page)) == 2
    assert len(re.findall(r'class="status \w+">\d+ ', page)) == 8
    assert "used in" in page
    drawing = (evaluated.folder / "report" / "accuracy_over_epsilon.svg").read_text()
    marks = [mark.tag.rpartition("}")[2] for mark in ElementTree.fromstring(drawing).iter()]
    # A line and its key for each model; 17 points on each line.
    assert marks.count("polyline") == 4
    assert marks.count("circle") == 34
    assert "Median distance to a misclassified point: base" in written


def test_a_report_of_what_is_known_so_far(metrics):
    empty = {"corruptions": {}, "trust": {}, "accuracy_over_epsilon": {}, "attacks": ["pgd4"]}
    page = render({**metrics, **empty, "complete": False})
    assert "not finished" in page
    assert "How accuracy falls" not in page
    many = [f"class {at}" for at in range(30)]
    confusion = np.eye(30, dtype=int)
    confusion[3, 4] = 5
    tables = {model: confusion.tolist() for model in metrics["models"]}
    known = {"class_names": many, "confusion": tables, "confusion_under_attack": {}}
    page = render({**metrics, **known})
    assert 'class="matrix"' not in page
    assert page.count('alt="Confusion matrix of 30 classes') == 2
    # What version 0.1 wrote, of no attack.
    old = {key: value for key, value in metrics.items() if "under" not in key and "cou" not in key}
    page = render({**old, "count": 80, "attacks": []})
    assert page.count("20 images. What falls") == 1
    assert "Attacked images" not in page


def test_the_page_shows_how_the_training_went(metrics):
    rows = [
        {"epoch": at, "loss": 4 - at, "val_loss": 5.0, "accuracy": at / 4, "val_accuracy": 0.5}
        for at in range(3)
    ]
    page = render(metrics, {"base": rows, "adversarial": rows[:1]})
    assert re.findall(r"<h3>(accuracy|loss)</h3>", page) == ["accuracy", "loss"]
    assert "base, training: 0.0 % at 1, 25.0 % at 2, 50.0 % at 3" in page
    assert "adversarial, validation: 5 at 1" in page
    broken = [{"epoch": 0, "loss": float("nan")}]
    assert "<h2>Training" not in render(metrics, {"base": broken})


@pytest.mark.long
def test_what_is_kept_is_taken_over(evaluated, config, metrics, loaded):
    loaded.clear()
    assert evaluate_models(evaluated, config, resume=True) == metrics
    assert not loaded
    (evaluated.folder / "evaluation" / "adversarial" / "pgd4.json").unlink()
    assert evaluate_models(evaluated, config, resume=True) == metrics
    assert loaded == ["adversarial"]
    changed = dataclasses.replace(config, severity=1)
    again = evaluate_models(evaluated, changed, resume=True)
    assert again["base"]["pgd4"] == metrics["base"]["pgd4"]
    assert again["base"]["gaussian"] != metrics["base"]["gaussian"]


@pytest.mark.long
def test_a_second_evaluation_stands_beside_the_first(evaluated, tmp_path, monkeypatch, capsys):
    few = dataclasses.replace(
        evaluated, models=evaluated.models[1:], folder=tmp_path, test=evaluated.test.take(slice(8))
    )
    monkeypatch.setattr("robustcls.evaluation.runs.models.find_models", lambda **_: few)
    flags = ["evaluate", str(tmp_path), "--attack", "fgsm", "--curve_limit", "0"]
    cli.main([*flags, "--epsilon", "0.1"])
    first = (tmp_path / "metrics.json").read_text()
    capsys.readouterr()
    cli.main([*flags, "--epsilon", "0.2"])
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1] == str(tmp_path / "evaluations" / "epsilon-0.2")
    assert "stays; this one is epsilon-0.2" in printed.err
    cli.main([*flags, "--epsilon", "0.2", "--name", "mine"])
    cli.main(["evaluate", str(tmp_path), "--resume", "--name", "mine"])
    assert (tmp_path / "metrics.json").read_text() == first
    mine = json.loads((tmp_path / "evaluations" / "mine" / "metrics.json").read_text())
    assert (mine["evaluation"], mine["epsilon"], mine["attacks"]) == ("mine", 0.2, ["fgsm"])
    page = (tmp_path / "report" / "evaluation.html").read_text()
    for name in ("mine", "epsilon-0.2"):
        assert f'href="../evaluations/{name}/report/evaluation.html"' in page
    cli.main(["evaluate", str(tmp_path), "--attack", "none", "--name", "clean"])
    clean = json.loads((tmp_path / "evaluations" / "clean" / "metrics.json").read_text())
    assert (clean["attacks"], clean["accuracy_over_epsilon"]) == ([], {})
    assert list(clean["adversarial"])[:2] == ["clean", "gaussian"]
    with pytest.raises(SystemExit):
        cli.main([*flags, "--epsilon", "0.3", "--name", "mine"])
    assert "name must be free" in capsys.readouterr().err


def test_ledger(tmp_path):
    states = []

    def measure(state):
        states.append(state)
        state.mkdir(parents=True)
        (state / "half").write_text("done")
        if len(states) == 1:
            raise KeyboardInterrupt
        return {"figures": (1, 2)}

    def part(reuse, setting):
        return Ledger(tmp_path / "kept", reuse=reuse).part("base", "x", {"s": setting}, measure)

    with pytest.raises(KeyboardInterrupt):
        part(False, 1)
    assert (states[0] / "half").exists()
    with pytest.raises(FileExistsError):
        part(True, 1)
    assert states[1] == states[0]
    assert part(True, 2) == {"figures": [1, 2]}
    assert states[2] != states[0]
    assert part(True, 2) == {"figures": [1, 2]}
    assert len(states) == 3
    part(False, 2)
    assert len(states) == 4


@pytest.mark.long
def test_a_model_file_and_strictness(overfitted, splits, tmp_path, capsys):
    path = tmp_path / "plain.keras"
    overfitted.save(path)
    settings = "--epsilon 0.3 --limit 30 --curve_limit 0 --trust_images 40"
    arguments = ["evaluate", str(path), "--data", "fashion_mnist_mini", *settings.split()]
    with pytest.raises(SystemExit) as stopped:
        cli.main([*arguments, "--strict"])
    assert stopped.value.code == 1
    printed = capsys.readouterr()
    assert "trust checks failed for model" in printed.err
    folder = tmp_path / "plain-evaluation"
    assert printed.out.splitlines()[-1] == str(folder)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["count"] == len(splits.test)
    predicted = overfitted.predict(splits.test.float_images(), verbose=0).argmax(-1)
    assert metrics["model"]["clean"] == pytest.approx((predicted == splits.test.labels).mean())
    assert not metrics["trust"]["model"]["believable"]
    assert metrics["accuracy_over_epsilon"] == {}

    cli.main(["certify", str(path), *arguments[2:4], "--samples", "20", "--limit", "5"])
    found = json.loads((folder / "certification.json").read_text())
    assert found["model"]["count"] == len(found["model"]["radius"]) == 5
    accuracies = [accuracy for _, accuracy in found["model"]["certified_accuracy"]]
    assert accuracies == sorted(accuracies, reverse=True)
    assert not found["trained_with_gaussian_noise"]
    assert (folder / "report" / "certified_accuracy.svg").exists()


def test_an_interruption_says_how_to_go_on(evaluated, monkeypatch, tmp_path, capsys):
    evaluated = dataclasses.replace(evaluated, folder=tmp_path)

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("robustcls.evaluation.runs.models.find_models", lambda **_: evaluated)
    monkeypatch.setattr("robustcls.evaluation.runs.comparison.evaluate_models", interrupted)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["evaluate", "runs/mine"])
    assert stopped.value.code == 130
    printed = capsys.readouterr().err
    assert f"{evaluated.folder} keeps what was found; --resume goes on" in printed
    assert printed.endswith("robustcls: interrupted\n")
    with pytest.raises(SystemExit):
        cli.main(["evaluate", "runs/mine", "--name", "x"])
    assert (
        "evaluations/x keeps what was found; --resume --name x goes on" in capsys.readouterr().err
    )


def test_another_range_of_pixels(overfitted, tmp_path):
    """The same model behind a layer that undoes the range gives the same answers."""
    shape = overfitted.input_shape[1:]
    layers = [keras.Input(shape), keras.layers.Rescaling(1 / 255), overfitted]
    keras.Sequential(layers).save(tmp_path / "pixels.keras")
    evaluated = find_models(tmp_path / "pixels.keras", "fashion_mnist_mini", input_range=(0, 255))
    few = evaluated.test.float_images()[:8]
    assert few.shape[1:] == shape
    assert evaluated.notes[0].startswith("The images were resized from 28×28 to 14×14 pixels, as")
    logits = [classifier_of(model) for model in (evaluated.models[0].load(), overfitted)]
    for classifier in logits:
        classifier.prepare(few)
    first, second = (classifier.predict(few) for classifier in logits)
    np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-4)


def test_certify_side_by_side(evaluated):
    config = SmoothingConfig(samples=30, selection=10, limit=6)
    found = certify_models(evaluated, config)
    assert found == json.loads((evaluated.folder / "certification.json").read_text())
    assert found["models"] == ["base", "adversarial"]
    assert certify_models(evaluated, config, resume=True) == found


def test_bad_input(evaluated, honest, tmp_path):
    for settings, message in [
        ({"attack": "fgsm,deepfool"}, "attack must be one of"),
        ({"attack": " , "}, "attack must be one or more"),
        ({"epsilon": 0}, "epsilon must be in"),
        ({"steps": 0}, "steps must be an integer >= 1"),
        ({"norm": "l1"}, "norm must be one of 0, 1, 2, inf"),
        ({"severity": 6}, "severity must be an integer"),
    ]:
        with pytest.raises(InputError, match=message):
            EvaluationConfig(**settings)
    for settings, message in [
        ({"noise_scale": "cifar"}, "Did you mean 'cifar_c'"),
        ({"corruptions": "cifar10_c"}, "Did you mean 'cifar_c'"),
    ]:
        with pytest.raises(InputError, match=message):
            evaluate_models(evaluated, EvaluationConfig(**settings), resume=True)
    few = dataclasses.replace(evaluated, class_names=NAMES[:4], folder=tmp_path)
    with pytest.raises(InputError, match="data must have the 10 classes of the model"):
        evaluate_models(few)
    honest.save(tmp_path / "m.keras")
    for arguments, message in [
        ((tmp_path / "m.keras",), "data must name the images"),
        ((tmp_path, "fashion_mnist_mini"), "output and skip_bad_images are for a .keras file"),
        ((tmp_path / "none",), "none does not exist"),
        ((tmp_path,), "holds no config.json"),
    ]:
        with pytest.raises(InputError, match=message):
            find_models(*arguments)
