"""A folder of photographs as they come, the commands of the quick start, and no flag but names."""

import asyncio
import base64
import contextlib
import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_sample_image

from robustcls import cli, load_classifier
from robustcls.data.decoding import read_image
from robustcls.models import mobilenet_v2
from robustcls.runs import Run
from robustcls.serving.exports.configuration import find_models
from robustcls.serving.server.engine import Engine, Limits
from robustcls.serving.server.rest_api import make_app

FORMATS = ("jpg", "png", "bmp", "gif", "webp", "JPEG")
TURNED = 6  # EXIF: to be turned by 90 degrees to the right


def save(picture, folder, number):
    """Saves a picture in one format after the other; some are gray, some are turned."""
    path = folder / f"{number:03}.{FORMATS[number % len(FORMATS)]}"
    if number % 10 == 9:
        picture = picture.convert("L")
    if number % 12 == 0:
        exif = Image.Exif()
        exif[0x0112] = TURNED
        picture.rotate(90, expand=True).save(path, exif=exif, quality=95)
    else:
        picture.save(path)


@pytest.fixture
def photos(tmp_path):
    """180 photographs of three classes, cut from two of scikit-learn's without overlap."""
    china, flower = load_sample_image("china.jpg"), load_sample_image("flower.jpg")
    areas = {"temple": china[213:], "trees and sky": china[:213], "flower": flower}
    for name, area in areas.items():
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        tiles = [
            area[top : top + 42, left : left + (48 if top % 84 else 44)]
            for top in range(0, area.shape[0] - 41, 42)
            for left in range(0, area.shape[1] - 47, 48)
        ]
        chosen = np.random.default_rng(0).permutation(len(tiles))[:60]
        for number, at in enumerate(chosen):
            save(Image.fromarray(tiles[at]), folder, number)
        (folder / "._000.jpg").write_bytes(b"what a Mac leaves behind")
        (folder / "Thumbs.db").write_bytes(b"and what Windows does")
    return tmp_path / "photos"


@pytest.fixture
def shallow(monkeypatch):
    """MobileNetV2 with three stages of a block: what it costs is the tracing of all layers."""
    stages = tuple((channels, 1, stride) for channels, _, stride in mobilenet_v2.STAGES[:3])
    monkeypatch.setattr(mobilenet_v2, "STAGES", stages)


@pytest.mark.long
def test_from_a_folder_to_a_served_model(photos, shallow, tmp_path, capsys, monkeypatch, post):
    """The commands of the quick start on a small network, with the robust twin, PGD and the curve.

    It trains from random weights, for fewer epochs than it would choose.
    """
    monkeypatch.chdir(tmp_path)
    cheap = ["--model.alpha", "0.35", "--epochs", "6"]
    cli.main(["train", "--data", "photos", "--out", "run", *cheap])
    printed = capsys.readouterr().out
    (line,) = (line for line in printed.splitlines() if "Chosen for" in line)
    assert line.startswith("Images of 2 sizes from 42×44 to 42×48 pixels are resized to 32×32. ")
    assert "Chosen for 129 images and random weights: batch_size 16" in line
    run = Run(tmp_path / "run")
    assert run.config["chosen"] == line
    assert run.trained == ["base", "adversarial"]
    assert len(run.config["data"]["class_names"]) == 3

    few = ["--steps", "3", "--curve_limit", "12"]
    cli.main(["evaluate", "run", "--attack", "pgd", "--epsilon", "2/255", *few])
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["count"] == 36
    for model in run.trained:
        # Chance is a third; attacks and their curve only take from it.
        assert metrics[model]["clean"] > 0.5
        assert metrics[model]["pgd3"] <= metrics[model]["clean"]
    curve = [accuracy for _, accuracy in metrics["accuracy_over_epsilon"]["base"]]
    assert curve == sorted(curve, reverse=True)
    page = (tmp_path / "run" / "report" / "evaluation.html").read_text()
    assert all(name in page for name in run.config["data"]["class_names"])

    cli.main(["export", "run"])
    cli.main(["check-export", "run/export"])
    picture = next(Path("photos/flower").glob("*.jpg"))
    (answer,) = asyncio.run(ask(post, tmp_path / "run" / "export", picture.read_bytes()))
    model = load_classifier(run.folder("adversarial") / "model.keras")
    seen = read_image(picture, (32, 32), 3)[None].astype(np.float32) / 255
    expected = tf.nn.softmax(model(seen, training=False))[0]
    np.testing.assert_allclose(answer["probabilities"], expected, atol=0.02)


async def ask(post, folder, picture):
    """What the server answers for the bytes of a picture, without a socket."""
    engine = Engine(find_models(folder), Limits(), batching=False)
    await engine.registry.scan()
    instances = [{"b64": base64.b64encode(picture).decode()}]
    question = {"signature_name": "serving_bytes", "instances": instances}
    answer = await post(make_app(engine), "/v1/models/run:predict", question)
    await engine.close()
    return answer["predictions"]


@pytest.mark.exhaustive
def test_a_newcomer_with_imagenet_weights(photos, tmp_path, capsys, monkeypatch):
    """As it comes, with MobileNetV2, the weights and a server of its own."""
    monkeypatch.chdir(tmp_path)
    train = ["train", "--data", "photos", "--model.weights", "imagenet", "--out", "run"]
    cli.main([*train, "--models", "base"])
    printed = capsys.readouterr().out
    (line,) = (line for line in printed.splitlines() if "Chosen for" in line)
    chosen = "Chosen for 129 images and given weights: epochs 15, batch_size 16, optimizer."
    assert chosen in line
    run = Run(tmp_path / "run")

    cli.main(["evaluate", "run", "--attack", "fgsm", "--curve_limit", "0"])
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    # Far above chance, 33 %; tiles of temple and trees are not easily told apart at this size.
    assert metrics["base"]["clean"] > 0.6
    assert metrics["findings"] == []

    cli.main(["export", "run"])
    picture = next(Path("photos/flower").glob("*.jpg")).read_bytes()
    instances = [{"b64": base64.b64encode(picture).decode()}]
    question = {"signature_name": "serving_bytes", "instances": instances}
    with served("run/export") as address:
        request = urllib.request.Request(
            f"{address}/v1/models/run:predict", json.dumps(question).encode()
        )
        with urllib.request.urlopen(request) as response:
            (answer,) = json.load(response)["predictions"]
    names = run.config["data"]["class_names"]
    assert names[int(np.argmax(answer["probabilities"]))] == "flower"


@contextlib.contextmanager
def served(folder):
    """The address of a server of an export."""
    command = [sys.executable, "-m", "robustcls", "serve", folder]
    command += ["--rest-port", "0", "--grpc-port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield server.stdout.readline().split()[-1].rstrip("/")
    finally:
        server.terminate()
        server.wait(30)
        server.stdout.close()
