import os
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

from robustcls import load
from robustcls.cli import main
from robustcls.runs import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run as training leaves it, with networks that have learnt nothing."""
    splits = load("fashion_mnist_mini")
    config = {
        "train": {"data": {"name": "fashion_mnist_mini"}, "augmentation": None, "seed": 0},
        "data": {
            "source": splits.source,
            "fingerprint": splits.fingerprint,
            "class_names": list(splits.class_names),
            "image_shape": [28, 28, 1],
        },
        "seed": 0,
    }
    made = Run.create(tmp_path_factory.mktemp("runs") / "run", config)
    layers = keras.layers
    for name in ("base", "adversarial"):
        model = keras.Sequential(
            [
                keras.Input((28, 28, 1)),
                layers.Conv2D(4, 3, strides=2, name="convolution"),
                layers.GlobalAveragePooling2D(),
                layers.Dense(10),
            ]
        )
        made.folder(name).mkdir()
        model.save(made.folder(name) / "model.keras")
    return made


def fail(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main(["explain", *map(str, arguments)])
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_the_command_writes_a_report(run, capsys, tmp_path):
    arguments = ["--limit", "3", "--quality_limit", "2", "--attack", "fgsm", "--epsilon", "0.1"]
    main(["explain", str(run.path), *arguments])
    path = run.path / "report" / "explanations.html"
    assert capsys.readouterr().out.strip().splitlines()[-1] == str(path)
    html = path.read_text()
    assert "fgsm, L∞, epsilon 0.1" in html
    assert 'data-group="base"' in html
    assert 'data-group="adversarial"' in html
    assert html.count('class="card"') == 3


def test_pictures_of_ones_own(run, capsys, tmp_path):
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        pixels = np.random.default_rng(0).integers(0, 256, (28, 28, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.eye(28, dtype=np.uint8)).save(tmp_path / "masks" / "a_mask.png")
    other = tmp_path / "base.keras"
    shutil.copy(run.folder("base") / "model.keras", other)
    (run.path / "report").mkdir(exist_ok=True)
    (run.path / "report" / "evaluation.html").write_text("<!-- pages --><!-- end of pages -->")
    flags = ["--out", str(tmp_path / "out"), "--methods", "gradients", "--attack", "none"]
    flags += ["--masks", str(tmp_path / "masks"), "--beside", str(other), "--quality-limit", "2"]
    main(["explain", str(run.path), *flags, "--images", *map(str, paths)])
    html = (tmp_path / "out" / "explanations.html").read_text()
    assert html.count('class="card"') == 2
    assert "b.png" in html
    assert html.count(f'data-group="{tmp_path.name}-base"') == 2
    # It lies elsewhere, and leads to the run's evaluation, which does not lead to it.
    address = os.path.relpath(run.path / "report" / "evaluation.html", tmp_path / "out")
    assert f'<a href="{address}">Evaluation' in html
    assert "out" not in (run.path / "report" / "evaluation.html").read_text()
    table = (tmp_path / "out" / "verdict" / "base.csv").read_text()
    assert [line for line in table.splitlines() if line.startswith("gradients,mass_in_mask,")]


def test_bad_input_is_one_line(run, capsys, tmp_path):
    Image.new("L", (30, 20)).save(tmp_path / "large.png")
    (tmp_path / "broken.png").write_text("no image")
    for arguments, message in [
        (["--images", tmp_path / "large.png"], "images must be 28 x 28 pixels"),
        (["--images", tmp_path / "broken.png"], "broken.png cannot be read: not an image"),
        (["--images", tmp_path / "broken.png", tmp_path / "none.png"], "2 files cannot be read"),
        (["--images", tmp_path / "none.png"], "none.png cannot be read: no such file"),
        (["--layer", "convolutoin"], "Did you mean 'convolution'"),
        (
            ["--attack", "cw"],
            "attack must be one of apgd, autoattack, ddn, fab, fast, fgsm, fmn, none",
        ),
        (["--epsilon", "8"], "Did you mean 8/255?"),
        (["--classes", "Shoe"], "classes must be one of Ankle boot"),
        (["--methods", "gradcam"], "Did you mean 'grad_cam'"),
        (["--masks", tmp_path / "nowhere"], "masks must be a folder of pictures"),
        (["--masks", tmp_path], "masks must have the names of images"),
        (["--beside", tmp_path / "none.keras"], "none.keras"),
        (["--beside", run.path, run.path, run.path], "beside must name each model once"),
    ]:
        assert message in fail(capsys, run.path, *arguments)
    assert "does not exist" in fail(capsys, tmp_path / "nowhere")


@pytest.mark.long
def test_shards_join_to_the_report_of_one_process(run, capsys, tmp_path):
    arguments = [str(run.path), "--limit", "2", "--quality_limit", "2", "--attack", "fgsm"]
    arguments += ["--methods", "gradients", "--measures", "infidelity"]
    whole, shared, other = (str(tmp_path / name) for name in ("whole", "shared", "other"))
    main(["explain", *arguments, "--out", whole])
    main(["explain", *arguments, "--out", shared, "--shards", "1/2"])
    assert not (tmp_path / "shared/explanations.html").exists()
    merging = ["merge", str(run.path), "--command", "explain", "--out", shared]
    with pytest.raises(SystemExit):
        main(merging)
    assert "Run --shards 2/2" in capsys.readouterr().err
    main(["explain", *arguments, "--out", other, "--shards", "2/2"])
    main([*merging, "--folders", other])
    for name in ("explanations.html", "explanations.jsonl", "verdict/base.csv"):
        assert (tmp_path / "shared" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    for model in ("base", "adversarial"):
        here, there = (np.load(tmp_path / f"{n}/maps/{model}.npz") for n in ("whole", "shared"))
        for array in here:
            np.testing.assert_array_equal(here[array], there[array], err_msg=array)
