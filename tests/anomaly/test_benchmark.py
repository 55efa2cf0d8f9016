"""`anomaly benchmark` and `anomaly boxes`."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from anomaly import cli
from anomaly.experiments import benchmark
from anomaly.experiments.protocol import known_anomalies, one_class_splits
from anomaly.experiments.tables import oracle_gap, summarize
from robustcls import InputError, load

FLAGS = ("benchmark", "--data", "fashion_mnist_mini", "--classes", "[1]", "--seeds", "2")
METHODS = '["one_class_svm", "autoencoder@quick"]'
SETTINGS = '{"autoencoder@quick": {"epochs": 1, "batch_size": 128}}'


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A benchmark that was stopped after its first three results and went on."""
    out = tmp_path_factory.mktemp("benchmark") / "out"
    flags = [*FLAGS, "--methods", METHODS, "--settings", SETTINGS, "--out", str(out)]
    original, done = benchmark._measure, []

    def measure(config, job, *rest):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(job)
        return original(config, job, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "_measure", measure)
        with pytest.raises(SystemExit):
            cli.main(flags)
    early = json.loads((out / "results.json").read_text())
    before = {path: path.stat().st_mtime_ns for path in (out / "results").iterdir()}
    cli.main([*flags, "--resume"])
    return out, early, before


def test_a_stopped_benchmark_keeps_its_results_and_goes_on(finished):
    out, early, before = finished
    assert len(early["results"]) == len(before) == 3
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    whole = json.loads((out / "results.json").read_text())
    assert [(r["row"], r["normal_class"], r["seed"]) for r in whole["results"]] == [
        (row, "Trouser", seed) for seed in (0, 1) for row in ("one_class_svm", "autoencoder@quick")
    ]


def test_the_tables_say_what_was_measured(finished):
    out, _, _ = finished
    whole = json.loads((out / "results.json").read_text())
    for result in whole["results"]:
        assert result["oracle"]["best_auroc"] >= result["oracle"]["auroc"]
        assert len(result["oracle"]["epochs"]) == (result["method"] == "autoencoder")
        assert result["training_seconds"] > 0
        assert result["false_alarm_rate"]["asked"] == 0.05
    svm = [r["auroc"] for r in whole["results"] if r["row"] == "one_class_svm"]
    assert min(svm) > 0.7
    assert whole["summary"]["one_class_svm"]["AUROC %"] == pytest.approx(100 * np.mean(svm))
    rows = list(csv.DictReader((out / "results.csv").read_text().splitlines()))
    assert len(rows) == 4
    assert float(rows[0]["AUROC %"]) == pytest.approx(100 * svm[0], abs=1e-3)
    text = (out / "results.md").read_text()
    assert f"| **{100 * np.mean(svm):.2f}**" in text
    assert "| Trouser |" in text
    assert "| Sandal |" not in text


def test_summaries():
    def result(seed, name, auroc):
        rate = {"asked": 0.05, "got": 0.04}
        return {
            **{"row": "memae", "normal_class": name, "seed": seed, "auroc": auroc, "aupr": 0.9},
            **{"f1": 0.8, "false_alarm_rate": rate, "detection_rate": {"got": 0.7}},
            **{"training_seconds": 60, "images_per_second": 2000},
            "oracle": {"auroc": 0.9, "best_auroc": 0.95},
        }

    results = [result(0, "a", 0.9), result(0, "b", 0.8), result(1, "a", 1.0), result(1, "b", 0.9)]
    (row,) = summarize(results).values()
    assert row["AUROC %"] == pytest.approx(90)
    assert row["AUROC deviation %"] == pytest.approx(np.std([85, 95], ddof=1))
    assert row["oracle gap, points"] == pytest.approx(100 * oracle_gap(results[0]))
    assert (row["classes"], row["seeds"]) == (2, 2)
    # A seed with some of its classes alone has no mean to compare, and gives these no weight.
    partial = summarize(results[:3])["memae"]
    assert "AUROC deviation %" not in partial
    assert partial["AUROC %"] == pytest.approx((95 + 80) / 2)


def test_known_anomalies_are_of_one_other_class():
    splits = load("fashion_mnist_mini")
    parts = one_class_splits(splits, 1)
    found = known_anomalies(splits, parts, 0.05, 3)
    assert len(found) == round(0.05 * len(parts.train))
    pixels = {image.tobytes(): label for image, label in zip(*_train(splits), strict=True)}
    labels = {pixels[image.tobytes()] for image in np.round(255 * found).astype(np.uint8)}
    assert len(labels) == 1
    assert 1 not in labels
    np.testing.assert_array_equal(known_anomalies(splits, parts, 0.05, 3), found)
    with pytest.raises(InputError, match="labelled_anomalies must be a number > 0"):
        known_anomalies(splits, parts, 0, 0)
    # What the set holds under both labels is no known anomaly.
    others = splits.train.take(splits.train.labels == labels.pop())
    twins = dataclasses.replace(parts, train=others.take(slice(10, None)))
    rest = known_anomalies(splits, twins, 1, 3)
    np.testing.assert_array_equal(
        np.unique(rest, axis=0), np.unique(others.take(slice(10)).float_images(), axis=0)
    )


def _train(splits):
    return splits.train.images, splits.train.labels


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--methods", '["memea"]'], "Did you mean 'memae'?"),
        (["--methods", "[]"], "methods must name at least one"),
        (["--methods", '["memae"]', "--settings", '{"ognet": {}}'], "settings must be one of"),
        (["--methods", '["memae"]', "--settings", '{"memae": {"slots": 3}}'], "received 'slots'"),
        (["--methods", '["memae"]', "--seeds", "0"], "seeds must be an integer >= 1"),
        (["--methods", '["memae"]', "--classes", "[10]"], "normal_class must be"),
        (["--methods", '["memae"]', "--labelled-anomalies", "2"], "labelled_anomalies must be"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(given, message, tmp_path, capfd):
    flags = ["benchmark", "--data", "fashion_mnist_mini", "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as exit_:
        cli.main([*flags, *given])
    assert exit_.value.code == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert message in line
    assert not (tmp_path / "out").exists()


def test_boxes_of_image_files(tmp_path, capfd):
    run = str(tmp_path / "run")
    train = ["train", "--data", "fashion_mnist_mini", "--normal-class", "1", "--epochs", "1"]
    cli.main([*train, "--method", "autoencoder", "--out", run])
    (tmp_path / "images").mkdir()
    pixels = np.zeros((40, 40), np.uint8)
    pixels[10:20, 5:15] = 255
    Image.fromarray(pixels).save(tmp_path / "images" / "a.png")
    out = str(tmp_path / "boxes")
    cli.main(["boxes", run, "--images", str(tmp_path / "images"), "--out", out])
    assert capfd.readouterr().out.splitlines()[-1] == f"{out}/boxes.json"
    (entry,) = json.loads((tmp_path / "boxes" / "boxes.json").read_text())
    assert entry["image"].endswith("a.png")
    assert entry["boxes"]
    with Image.open(tmp_path / "boxes" / entry["picture"]) as picture:
        assert (np.asarray(picture) == (255, 0, 0)).all(-1).any()
    with pytest.raises(SystemExit):
        cli.main(["boxes", run, "--images", "none.png", "--out", out])
    assert "none.png cannot be read" in capfd.readouterr().err


def _category(root, seed, side=16):
    """Stripes as MVTec AD has them: good ones, and some with a bright square, with masks."""
    draws = np.random.default_rng(seed)
    for folder, count in (("train/good", 50), ("test/good", 6), ("test/hole", 5)):
        (root / folder).mkdir(parents=True)
        for number in range(count):
            pixels = np.tile(np.uint8(100 + 50 * np.sin(np.arange(side))), (side, 1))
            pixels = pixels + draws.integers(0, 9, pixels.shape, dtype=np.uint8)
            mask = np.zeros_like(pixels)
            if folder == "test/hole":
                mask[4:9, 5:11] = 255
                pixels[mask > 0] = 250
                place = root / "ground_truth/hole" / f"{number:03}_mask.png"
                place.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(place)
            Image.fromarray(pixels).save(root / folder / f"{number:03}.png")


@pytest.mark.long
def test_categories_of_a_set_of_defects(tmp_path, capfd):
    """One task a category, with figures of maps where a method makes some."""
    for number, name in enumerate(("bottle", "cable")):
        _category(tmp_path / "mvtec" / name, number)
    settings = '{"autoencoder": {"epochs": 1, "batch_size": 10}}'
    flags = ["benchmark", "--seeds", "1", "--oracle", "false"]
    methods = ["--methods", "one_class_svm", "autoencoder"]
    out = tmp_path / "out"
    cli.main(
        [
            *flags,
            *methods,
            "--settings",
            settings,
            "--data",
            f"mvtec:{tmp_path / 'mvtec'}",
            "--out",
            str(out),
        ]
    )
    results = json.loads((out / "results.json").read_text())["results"]
    assert [(r["row"], r["normal_class"]) for r in results] == [
        (row, name) for row in ("one_class_svm", "autoencoder") for name in ("bottle", "cable")
    ]
    assert ["aupro" in r for r in results] == [False, False, True, True]
    assert all(r["auroc"] == 1 for r in results if r["row"] == "one_class_svm")
    table = (out / "results.md").read_text()
    assert "| bottle |" in table
    assert "AUPRO %" in table
    assert "–" in next(line for line in table.splitlines() if line.startswith("| one_class_svm"))
    rows = list(csv.DictReader((out / "results.csv").read_text().splitlines()))
    assert rows[0]["AUPRO %"] == ""
    assert float(rows[2]["AUPRO %"]) > 0
    capfd.readouterr()
    one = tmp_path / "one"
    data = f"mvtec:{tmp_path / 'mvtec' / 'cable'}"
    cli.main([*flags, "--methods", "one_class_svm", "--data", data, "--out", str(one)])
    (result,) = json.loads((one / "results.json").read_text())["results"]
    assert result["normal_class"] == "good"
    for name, words in (
        (f"mvtec:{tmp_path}", "must be a folder of mvtec with train"),
        (f"visa:{tmp_path / 'mvtec'}", "with Data/Images/Normal"),
        ("mvtec:nowhere", "nowhere has none"),
    ):
        with pytest.raises(SystemExit):
            cli.main([*flags, "--methods", "one_class_svm", "--data", name, "--out", "x"])
        error = capfd.readouterr().err
        assert words in error
        assert error.count("\n") == 1
    with pytest.raises(InputError, match=r"Did you mean mvtec:.*bottle"):
        load(f"mvtec:{tmp_path / 'mvtec'}")
