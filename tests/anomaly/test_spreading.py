"""Scores of files and benchmarks in shards are those of one process."""

import csv
import json
import shutil

import pytest
from PIL import Image

from anomaly import cli
from anomaly.experiments import benchmark, scores
from robustcls.runs import write_json

BENCHMARK = ("benchmark", "--data", "fashion_mnist_mini", "--classes", "[1, 8]", "--seeds", "2")


class Brightness:
    """A detector whose score is the mean of an image."""

    image_shape, threshold = (4, 4, 1), 0.5

    def score(self, images, batch_size):
        return images.mean((1, 2, 3))


@pytest.fixture
def run(tmp_path, monkeypatch):
    write_json(tmp_path / "run/detector/config.json", {})
    monkeypatch.setattr(scores, "load_detector", lambda run: Brightness())
    monkeypatch.setattr(scores, "_FILES", 2)
    (tmp_path / "files").mkdir()
    for number in range(5):
        Image.new("L", (9, 9), 60 * number).save(tmp_path / "files" / f"{number}.png")
    (tmp_path / "files" / "3.png").write_bytes(b"broken")
    return tmp_path / "run"


def test_scores_of_files_in_shards(run, run_here):
    def score(out, *flags):
        files, out = run.parent / "files", run.parent / out
        return run_here(cli.main, "score", run, "--images", files, "--out", out, *flags)

    refused = score("whole")
    assert refused.returncode == 2
    assert "3.png cannot be read: not an image" in refused.stderr
    assert not (run.parent / "whole/scores.csv").exists()
    whole = score("whole", "--skip_bad_images", "--resume")
    assert whole.returncode == 0
    assert "Left out, as unreadable: " in whole.stderr
    entries = json.loads((run.parent / "whole/scores.json").read_text())
    assert [entry["verdict"] for entry in entries] == [
        *("normal", "normal", "normal"),
        *("unreadable", "anomaly"),
    ]
    assert entries[4]["score"] == pytest.approx(240 / 255)
    assert entries[3]["reason"]
    with (run.parent / "whole/scores.csv").open() as file:
        assert [row["score"] for row in csv.DictReader(file)][3] == ""

    assert score("here", "--skip_bad_images", "--shards", "1/2").returncode == 0
    missing = run_here(cli.main, "merge", run.parent / "here")
    assert missing.returncode == 2
    assert "Run --shards 2/2" in missing.stderr
    assert score("there", "--skip_bad_images", "--shards", "2/2").returncode == 0
    merged = run_here(cli.main, "merge", run.parent / "here", "--folders", run.parent / "there")
    assert merged.returncode == 0, merged.stderr
    for name in ("scores.json", "scores.csv"):
        assert (run.parent / "here" / name).read_bytes() == (
            run.parent / "whole" / name
        ).read_bytes()
    # Another image in place of one that was scored.
    Image.new("L", (90, 9)).save(run.parent / "files" / "0.png")
    changed = run_here(cli.main, "merge", run.parent / "here")
    assert "missing are files/000000000" in changed.stderr
    assert "does not exist" in score("nowhere", "--images", run.parent / "none").stderr


def test_a_benchmark_in_shards(tmp_path, run_here, monkeypatch):
    def measure(config, job, tasks):
        rate = {"asked": 0.05, "got": 0.04}
        name = tasks.names[job.normal_class]
        return {
            **{"row": job.row, "normal_class": name, "seed": job.seed, "auroc": 0.9, "aupr": 0.9},
            **{"f1": 0.8, "false_alarm_rate": rate, "detection_rate": {"got": 0.7}},
            **{"training_seconds": 60, "images_per_second": 2000},
            "oracle": {"auroc": 0.9, "best_auroc": 0.95},
        }

    monkeypatch.setattr(benchmark, "_measure", measure)
    flags = (*BENCHMARK, "--methods", "[autoencoder, memae]", "--out")
    assert run_here(cli.main, *flags, tmp_path / "whole").returncode == 0
    results = json.loads((tmp_path / "whole/results.json").read_text())["results"]
    assert [(r["seed"], r["row"], r["normal_class"]) for r in results] == [
        (seed, row, name)
        for seed in (0, 1)
        for row in ("autoencoder", "memae")
        for name in ("Trouser", "Bag")
    ]
    for place, shard in (("here", "1/3"), ("here", "2/3"), ("there", "3/3")):
        assert run_here(cli.main, *flags, tmp_path / place, "--shards", shard).returncode == 0
    lost = run_here(cli.main, "merge", tmp_path / "here")
    assert "Run --shards 3/3" in lost.stderr
    shutil.copytree(tmp_path / "there", tmp_path / "other")
    path = tmp_path / "other/results/shard_3_of_3.json"
    path.write_text(path.read_text().replace('"fingerprint": "', '"fingerprint": "0'))
    other = run_here(cli.main, "merge", tmp_path / "here", "--folders", tmp_path / "other")
    assert "data.fingerprint must be the same for all shards" in other.stderr
    done = run_here(cli.main, "merge", tmp_path / "here", "--folders", tmp_path / "there")
    assert done.returncode == 0, done.stderr
    for name in ("results.json", "results.md", "results.csv"):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
