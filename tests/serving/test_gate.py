"""A detector and a classifier in one export."""

import base64
import json
import shutil
import subprocess

import grpc
import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from anomaly import OneClassDetector, cli
from anomaly.serving.gate import REFUSED
from robustcls.data.sources import load
from robustcls.runs import Run
from robustcls.serving.checking.fresh_process import LEVEL, read_cases
from robustcls.serving.checking.parity import check_export
from robustcls.serving.exports.cases import CASES_FILE

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Waves are normal; waves with a bright square are not."""
    root = tmp_path_factory.mktemp("images")
    draws = np.random.default_rng(0)
    rows, columns = np.mgrid[:28, :28] / 6
    for part, count in (("train", 48), ("test", 20)):
        for name in ("defect", "wave"):
            (root / part / name).mkdir(parents=True)
            for index in range(count):
                phase = draws.uniform(0, 2 * np.pi)
                pixels = 0.4 + 0.2 * np.sin(rows + phase) * np.cos(columns + phase / 2)
                if name == "defect":
                    pixels[8:14, 12:18] = 1
                picture = Image.fromarray((255 * pixels).astype(np.uint8))
                picture.save(root / part / name / f"{index}.png")
    return root


@pytest.fixture(scope="module")
def runs(folder, tmp_path_factory):
    """A trained detector, and a classifier whose weights are random."""
    root = tmp_path_factory.mktemp("runs")
    flags = ["--method", "autoencoder", "--normal-class", "wave", "--epochs", "20", "--seed", "3"]
    flags += ["--settings.learning_rate", "0.005", "--settings.batch_size", "16"]
    cli.main(["train", "--data", str(folder), "--out", str(root / "waves"), *flags])
    config = {
        "train": {"data": {"name": str(folder)}, "model": {"backbone": "own"}},
        "data": {"fingerprint": load(str(folder)).fingerprint},
    }
    classifier = Run.create(root / "kinds", config)
    layers = keras.layers
    images = keras.Input((28, 28, 1), name="images")
    x = layers.Conv2D(4, 3, 2, activation="relu")(images)
    x = layers.Dense(2)(layers.GlobalAveragePooling2D()(x))
    classifier.folder("base").mkdir()
    keras.Model(images, x).save(classifier.folder("base") / "model.keras")
    return root / "waves", root / "kinds"


@pytest.fixture(scope="module")
def version(runs):
    """The folder of their export."""
    detector_run, classifier_run = runs
    cli.main(["export", str(detector_run), "--classifier", str(classifier_run)])
    return detector_run / "export-gate" / "1"


def test_both_answer_as_one(folder, runs, version, failed_checks):
    """Together they say what each alone says of every test image."""
    detector_run, classifier_run = runs
    loaded = tf.saved_model.load(str(version))
    assert failed_checks(loaded, read_cases(version / CASES_FILE)) == []
    signatures = loaded.signatures
    assert set(signatures) == {
        *("serving_default", "serving_bytes", "decode", "explain"),
        *("score", "detect", "anomaly_map", "boxes"),
    }
    test = load(str(folder)).test
    images = test.float_images()
    served = signatures["serving_default"](images=tf.constant(images))
    answer = {key: value.numpy() for key, value in served.items()}
    detector = OneClassDetector.load(detector_run / "detector")
    classifier = keras.models.load_model(classifier_run / "base" / "model.keras")
    refused = detector.predict(images)
    classes = np.asarray(classifier(images)).argmax(1)
    assert 0 < refused.sum() < len(refused)
    np.testing.assert_array_equal(answer["is_anomaly"], refused)
    np.testing.assert_array_equal(answer["classes"], classes)
    np.testing.assert_array_equal(answer["accepted_class"], np.where(refused, REFUSED, classes))
    own = tf.constant([np.nan], tf.float32)
    boxes = signatures["boxes"](images=tf.constant(images), pixel_threshold=own)["boxes"]
    for found, expected in zip(boxes.numpy(), detector.boxes(images), strict=True):
        listed = [(box.left, box.top, box.right, box.bottom) for box in expected[:16]]
        assert [tuple(box) for box in found.tolist() if any(box)] == listed
    card = (version / "MODEL_CARD.md").read_text()
    share = 100 * refused.mean()
    assert f"| gate: classifier's test images refused | {share:.1f} % |" in card
    right = 100 * (classes == test.labels)[~refused].mean()
    assert f"| gate: accuracy on those accepted | {right:.1f} % |" in card
    assert "- detector: normal class: wave" in card


def test_every_signature_is_served(folder, version, run_server, browser, tmp_path):
    """Through the generated client and curl, the answers that the parts gave before the export."""
    assert [entry for entry in check_export(version) if not entry["passed"]] == []
    asked = set()
    with (
        run_server(version.parent, tmp_path / "log") as server,
        grpc.insecure_channel(server.grpc) as channel,
    ):
        predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for signature, (inputs, expected) in read_cases(version / CASES_FILE).items():
            request = predict_pb2.PredictRequest()
            request.model_spec.name, request.model_spec.signature_name = "waves", signature
            for name, value in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            answer = predictions.Predict(request).outputs
            # With NaN, a threshold that is left to the detector.
            plain = {name: as_json(value) for name, value in inputs.items()}
            body = {"signature_name": signature, "inputs": plain}
            (tmp_path / "body").write_text(json.dumps(body))
            command = ["curl", "-s", "-d", f"@{tmp_path / 'body'}"]
            command.append(f"{server.rest}/v1/models/waves:predict")
            done = subprocess.run(command, capture_output=True, check=True)
            curled = json.loads(done.stdout)["outputs"]
            curled = curled if len(expected) > 1 else {next(iter(expected)): curled}
            for name, value in expected.items():
                received = tf.make_ndarray(answer[name])
                again = np.array(curled[name])
                if value.dtype.kind == "S":
                    again = np.char.encode(again)
                for values in (received, again):
                    if value.dtype.kind == "f":
                        allowed = LEVEL if signature == "decode" else 1e-5
                        np.testing.assert_allclose(values, value, atol=allowed)
                    else:
                        np.testing.assert_array_equal(values.astype(value.dtype), value)
            asked.add(signature)
        assert asked >= {"serving_bytes", "explain", "score", "detect", "anomaly_map", "boxes"}
        browser.open(server.rest)
        browser.wait_for("document.querySelectorAll('#model option').length === 1")
        browser.choose_file("#file", folder / "test" / "defect" / "0.png")
        browser.wait_for("document.getElementById('message').textContent === '0.png'")
        assert browser.run("document.getElementById('verdict').className") == "alarm"
        captions = browser.run(
            "[...document.querySelectorAll('figcaption')].map((c) => c.textContent)"
        )
        assert captions[-2] == "anomaly map"
        assert captions[-1] == "1 anomalous place"
        assert browser.problems == []


def as_json(array):
    if array.dtype.kind == "S":
        return [{"b64": base64.b64encode(one).decode()} for one in array.tolist()]
    return array.tolist()


def fail(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["export", *map(str, arguments)])
    assert stopped.value.code == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_what_does_not_fit_together_is_one_line(runs, tmp_path, capsys):
    detector_run, classifier_run = runs
    line = fail(capsys, detector_run, "--model", "base")
    assert "model must come with --classifier" in line
    line = fail(capsys, detector_run, "--classifier", detector_run)
    assert "run must hold a trained classifier" in line
    line = fail(capsys, detector_run, "--classifier", tmp_path / "none")
    assert "does not exist" in line
    small = Run.create(
        tmp_path / "small",
        {
            "train": {
                "data": {"name": "fashion_mnist_mini", "image_size": 14},
                "model": {"backbone": "own"},
            },
            "data": {"fingerprint": load("fashion_mnist_mini", image_size=14).fingerprint},
        },
    )
    shutil.copytree(classifier_run / "base", small.folder("base"))
    line = fail(capsys, detector_run, "--classifier", small.path)
    assert "of the detector's shape, [28, 28, 1]; received [14, 14, 1]" in line
    assert not (detector_run / "export-gate" / "2").exists()
