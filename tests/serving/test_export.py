import json
import os
import shutil
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from robustcls import InputError
from robustcls.cli import main
from robustcls.serving import export
from robustcls.serving.checking.fresh_process import read_cases
from robustcls.serving.checking.parity import check_export
from robustcls.serving.exports.archive import write_folder, write_version
from robustcls.serving.exports.cases import CASES_FILE
from robustcls.serving.exports.configuration import (
    BATCH_SIZES,
    find_models,
    read_batching,
    write_configuration,
)
from robustcls.serving.exports.endpoints import Endpoint
from robustcls.serving.exports.samples import bytes_of
from robustcls.serving.exports.warmup import read_warmup

CLASS_NAMES = ["cat", "dog", "<b>bird</b>"]
SIGNATURES = {"serving_default", "serving_bytes", "decode", "explain", "classify"}


@pytest.fixture(scope="module")
def loaded(exported):
    return tf.saved_model.load(str(exported / "1"))


def test_the_answers_are_the_models(model, loaded):
    images = np.random.default_rng(1).random((5, 12, 16, 1)).astype("float32")
    assert set(loaded.signatures) == SIGNATURES
    answer = loaded.signatures["serving_default"](images=tf.constant(images))
    logits = np.asarray(model(images, training=False))
    np.testing.assert_allclose(answer["logits"], logits, atol=1e-5)
    np.testing.assert_allclose(answer["probabilities"], tf.nn.softmax(logits), atol=1e-6)
    np.testing.assert_array_equal(answer["classes"], logits.argmax(1))
    order = np.argsort(-logits, 1)
    np.testing.assert_array_equal(answer["top_k"], order)
    names = np.array([name.encode() for name in CLASS_NAMES], object)[order]
    np.testing.assert_array_equal(answer["top_k_names"].numpy(), names)


def test_maps_are_the_gradient_of_the_asked_logit(model, loaded):
    images = np.random.default_rng(2).random((3, 12, 16, 1)).astype("float32")
    step = 1e-3
    predicted = np.asarray(model(images, training=False)).argmax(1)
    for asked, used in (([-1, -1, -1], predicted), ([2, 0, 1], [2, 0, 1])):
        maps = loaded.signatures["explain"](
            images=tf.constant(images), class_id=tf.constant(asked, tf.int64)
        )
        np.testing.assert_array_equal(maps["class_id"], used)
        assert (maps["cam"].numpy() >= 0).all()
        gradient = maps["positive"].numpy() - maps["negative"].numpy()
        # Along its own direction the logit must rise as fast as the gradient is long.
        length = np.sqrt((gradient**2).sum((1, 2)))
        towards = (step * gradient / length[:, None, None])[..., None]
        rise = model(images + towards, training=False) - model(images - towards, training=False)
        slope = np.asarray(rise)[np.arange(3), used] / (2 * step)
        np.testing.assert_allclose(slope, length, rtol=0.05)


def test_batch_norms_are_folded(exported):
    names = [name for name, _ in tf.train.list_variables(str(exported / "1/variables/variables"))]
    # Kernel and bias of two convolutions and the head.
    assert sum(name.endswith("VARIABLE_VALUE") for name in names) == 6


def test_configuration_is_what_tensorflow_serving_reads(exported):
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse((exported / "models.config").read_text(), config)
    (entry,) = config.model_config_list.config
    assert (entry.name, entry.base_path) == ("tiny", "/models/tiny")
    assert read_batching(exported / "batching_parameters.txt")["max_batch_size"] == 32
    services = yaml.safe_load((exported / "compose.yaml").read_text())["services"]
    images = [services[name]["image"] for name in ("serving", "serving-gpu")]
    assert images == ["tensorflow/serving:2.21.0", "tensorflow/serving:2.21.0-gpu"]
    deployment, _ = yaml.safe_load_all((exported / "kubernetes.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    for arguments in (services["serving"]["command"], container["args"]):
        assert "--model_config_file=/models/tiny/models.config" in arguments
        assert "--batching_parameters_file=/models/tiny/batching_parameters.txt" in arguments
    assert container["readinessProbe"]["httpGet"]["path"] == "/v1/models/tiny/metadata"
    (found,) = find_models(exported.parent)
    assert (found.name, found.folder, found.latest) == ("tiny", exported, 1)


def test_policies_and_labels_are_read(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "3").mkdir(parents=True)
    (tmp_path / "models.config").write_text(
        """model_config_list {
          config { name: "x" base_path: "/models/a" model_version_policy { all {} } }
          config { name: "y" base_path: "/models/b"
            model_version_policy { specific { versions: 3 versions: 1 } }
            version_labels { key: "stable" value: 3 } } }"""
    )
    first, second = find_models(tmp_path)
    assert (first.name, first.folder, first.latest) == ("x", tmp_path / "a", 0)
    assert (second.specific, second.labels) == ((3, 1), (("stable", 3),))
    (tmp_path / "models.config").write_text("nonsense {")
    with pytest.raises(InputError, match=r"models.config must be a ModelServerConfig"):
        find_models(tmp_path)


def test_warm_up_has_every_signature_in_every_batch_size(exported, loaded):
    seen = set()
    for name, inputs in read_warmup(exported / "1"):
        answers = loaded.signatures[name](**{k: tf.constant(v) for k, v in inputs.items()})
        (size,) = {len(value) for value in answers.values()}
        seen.add((name, size))
    assert seen == {(name, size) for name in SIGNATURES for size in BATCH_SIZES}


def test_the_card_says_what_is_served(exported):
    card = (exported / "1" / "MODEL_CARD.md").read_text()
    assert "| `explain` | `class_id` int64 [N], `images` float32 [N, 12, 16, 1] |" in card
    assert "classes: cat, dog, <b>bird</b>" in card
    settings = card.partition("```json\n")[2].partition("```")[0]
    assert "tensorflow" in json.loads(settings)["exported_with"]


def test_a_check_fails_when_an_answer_differs(exported, loaded, failed_checks):
    answers = read_cases(exported / "1" / CASES_FILE)
    assert failed_checks(loaded, answers) == []
    answers["serving_default"][1]["logits"] += 1e-3
    answers["explain"][1]["class_id"][0] += 1
    assert failed_checks(loaded, answers) == ["serving_default: logits", "explain: class_id"]


@pytest.mark.long
def test_a_process_without_keras_finds_the_same(exported, cases, tmp_path):
    """All checks pass but the one that must not."""
    shutil.copytree(exported / "1", tmp_path / "1")
    changed = dict(cases)
    changed["serving_default/outputs/logits"] = cases["serving_default/outputs/logits"] + 1e-3
    np.savez(tmp_path / "1" / "assets.extra" / "cases.npz", **changed)
    checks = check_export(tmp_path)
    assert [entry["check"] for entry in checks if not entry["passed"]] == [
        "serving_default: logits"
    ]
    assert {"process", "warm-up replay", "explain: cam", "decode: images"} <= {
        entry["check"] for entry in checks
    }


def write(out, function, version=None, finish=lambda folder: None):
    endpoint = Endpoint("serving_default", function, (tf.TensorSpec([None], tf.float32, "x"),))
    return write_version(out, [endpoint], [], finish, version)


def test_versions_count_up_and_are_never_replaced(tmp_path):
    def double(x):
        return {"y": 2 * x}

    def killed(folder):
        raise KeyboardInterrupt

    assert write(tmp_path, double, 7) == tmp_path / "7"
    with pytest.raises(InputError, match=r"version must be a new one; .*7 exists"):
        write(tmp_path, double, 7)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, double, finish=killed)
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "7"}
    assert write(tmp_path, double) == tmp_path / "8"
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write(tmp_path / "file" / "out", double)


def test_what_killed_exports_left_goes(tmp_path):
    for name, hours in (("old", 2), ("new", 0)):
        half = tmp_path / f".writing-{name}"
        half.mkdir()
        then = time.time() - hours * 3600
        os.utime(half, (then, then))
    write_folder(tmp_path, lambda folder: None)
    assert {path.name for path in tmp_path.iterdir()} == {".lock", ".writing-new", "1"}


def test_of_two_exports_into_one_folder_the_second_gets_a_line(tmp_path):
    def another(folder):
        write_folder(tmp_path, lambda folder: None)

    with pytest.raises(InputError, match=r"must not be in use; .* is, by process \d+") as refused:
        write_folder(tmp_path, another)
    assert len(str(refused.value).splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    assert write_folder(tmp_path, lambda folder: None) == tmp_path / "1"


def test_graphs_that_would_serve_badly(tmp_path):
    def noisy(x):
        return {"y": x + tf.random.stateless_normal(tf.shape(x), [1, 2])}

    with pytest.raises(InputError, match="no random operations; received StatelessRandom"):
        write(tmp_path, noisy)
    with pytest.raises(InputError, match="jit_compile"):
        write(tmp_path, tf.function(lambda x: {"y": tf.sin(x)}, jit_compile=True))
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_images_given_are_bytes_or_in_the_unit_range():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), np.uint8)
    for images in (pixels, pixels / 255, (pixels / 255).astype(np.float32)):
        found = bytes_of(images)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, pixels)
    for images, line in ((pixels[0], r"\[N, H, W, C\]"), (pixels * 1.0, r"must be in \[0, 1\]")):
        with pytest.raises(InputError, match=line):
            bytes_of(images)


def test_configuration_of_the_users_stays(tmp_path):
    (tmp_path / "models.config").write_text("# mine")
    write_configuration(tmp_path, "tiny")
    assert (tmp_path / "models.config").read_text() == "# mine"
    assert (tmp_path / "compose.yaml").exists()


def classifier(*layers, shape=(12, 16, 1)):
    flatten = [keras.layers.Flatten(), keras.layers.Dense(3)]
    return keras.Sequential([keras.Input(shape), *flatten, *layers])


@pytest.mark.parametrize(
    ("make", "names", "message"),
    [
        (lambda: classifier(), ["a", "b"], "class_names must be 3 different names; received 2"),
        (lambda: classifier(), ["a", "b", "b"], "received 3, 2 of them different"),
        (lambda: classifier(), ["a", "b", "c\nd"], "class_names must be lines of text"),
        (lambda: classifier(shape=(12,)), list("abc"), "must take images [N, H, W, C]"),
        (lambda: classifier(shape=(12, 16, 2)), list("abc"), "of 1 or 3 channels; received 2"),
        (lambda: "model.keras", list("abc"), "which does not exist"),
        (lambda: lambda images: images, list("abc"), "of which only outputs can be had"),
    ],
)
def test_models_that_cannot_be_served(tmp_path, make, names, message):
    with pytest.raises(InputError) as refused:
        export(make(), tmp_path / "out", class_names=names)
    assert message in str(refused.value)
    assert not list(tmp_path.rglob("saved_model.pb"))


def fail(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    assert stopped.value.code == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_bad_folders_are_one_line(capsys, tmp_path, exported):
    run = tmp_path / "run"
    run.mkdir()
    assert "does not exist" in fail(capsys, "export", tmp_path / "none")
    (run / "config.json").write_text("{}")
    assert "run must hold a trained classifier" in fail(capsys, "export", run)
    for command in ("check-export", "serve"):
        assert "does not exist" in fail(capsys, command, tmp_path / "none")
        assert "has no version folder" in fail(capsys, command, tmp_path)
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"\xff\xff")
    assert "assets.extra" in fail(capsys, "check-export", tmp_path)
    line = fail(capsys, "serve", tmp_path, "--rest-port", "0", "--grpc-port", "0")
    assert "saved_model.pb must be a SavedModel" in line
    assert "rest_port" in fail(capsys, "serve", exported, "--rest-port", "70000")
