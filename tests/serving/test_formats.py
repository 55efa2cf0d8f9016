"""Exports that are not float32 SavedModels: bfloat16, int8, ONNX."""

import importlib
import json

import keras
import numpy as np
import onnxruntime
import openvino
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from robustcls import InputError
from robustcls.attacks import Square
from robustcls.cli import main
from robustcls.data.splits import Split
from robustcls.serving import export
from robustcls.serving.checking.fresh_process import read_cases
from robustcls.serving.checking.parity import check_export
from robustcls.serving.conversion_robustness import robustness
from robustcls.serving.exports.bfloat16 import with_bfloat16_weights
from robustcls.serving.exports.cases import CASES_FILE
from robustcls.serving.exports.portable import export_file

CLASS_NAMES = ["cat", "dog", "<b>bird</b>"]
IMAGES = np.random.default_rng(3).integers(0, 256, (40, 12, 16, 1)).astype(np.uint8)
FLOATS = IMAGES.astype(np.float32) / np.float32(255)


@pytest.fixture(scope="module")
def split(model):
    """Labelled as the model says, but for one image."""
    labels = np.asarray(model(FLOATS, training=False)).argmax(1)
    labels[7] = (labels[7] + 1) % 3
    return Split(IMAGES, labels, np.arange(len(IMAGES)).astype(str))


def run_int8(path, images):
    interpreter = Interpreter(model_path=str(path))
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(source["index"], images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(source["index"], images)
    interpreter.invoke()
    weights = [one for one in interpreter.get_tensor_details() if len(one["shape"]) == 4]
    assert any(one["dtype"] == np.int8 for one in weights)
    return interpreter.get_tensor(target["index"])


def run_openvino(path, images):
    # By itself OpenVINO computes in bfloat16 where the processor can.
    precision = {"INFERENCE_PRECISION_HINT": "f32"}
    return openvino.Core().compile_model(path, "CPU", precision)({"images": images})["logits"]


def run_onnx(path, images):
    return onnxruntime.InferenceSession(str(path)).run(["logits"], {"images": images})[0]


@pytest.mark.parametrize(
    ("format", "file", "run", "tolerance"),
    [
        ("int8", "model.tflite", run_int8, 0.02),
        ("onnx", "model.onnx", run_onnx, 1e-5),
        ("openvino", "model.xml", run_openvino, 1e-5),
    ],
)
def test_one_file_answers_as_the_model(model, split, tmp_path, format, file, run, tolerance):
    version = export_file(
        model,
        tmp_path / format,
        format=format,
        class_names=CLASS_NAMES,
        calibration=IMAGES,
        test=split,
        name="tiny",
    )
    assert version == tmp_path / format / "1"
    logits = np.asarray(model(FLOATS, training=False))
    received = run(version / file, FLOATS)
    assert received.dtype == np.float32
    assert np.abs(received - logits).max() <= tolerance * np.abs(logits).max()
    assert (version / "class_names.txt").read_text().splitlines() == CLASS_NAMES
    found = json.loads((version / "comparison.json").read_text())
    assert found["measured"]["float32"]["accuracy"]["value"] == 39 / 40
    accuracy = (received.argmax(1) == split.labels).mean()
    assert found["measured"][format]["accuracy"]["value"] == accuracy
    assert found["same_class"] == (received.argmax(1) == logits.argmax(1)).mean()
    files = [path for path in version.iterdir() if path.stem == "model"]
    size = sum(path.stat().st_size for path in files) / 1e6
    assert found["measured"][format]["megabytes"] == size
    assert found["changed_images"] == 40
    for change, words in found["changed_by"].items():
        rows = [found["measured"][name][change]["value"] for name in ("float32", format)]
        assert all(0 <= value <= 39 / 40 for value in rows)
        line = f"| accuracy, % of 40: {words} | {100 * rows[0]:.2f} | {100 * rows[1]:.2f} |"
        assert line in (version / "MODEL_CARD.md").read_text()
    card = (version / "MODEL_CARD.md").read_text()
    assert f"| accuracy, % | 97.50 | {100 * accuracy:.2f} |" in card
    assert f"| `{file}` | `images` float32 [N, 12, 16, 1] | `logits` float32 [N, 3] |" in card


@pytest.mark.slow
def test_each_format_is_attacked_and_the_transferred_attack_is_one(model, split):
    """What answers as the model is as robust; what answers at random is not."""

    def same(images):
        return np.asarray(model(images, training=False))

    def constant(images):
        return np.tile(np.float32([2, 0, 0]), (len(images), 1))

    found = robustness(model, {"same": same, "constant": constant}, split)
    share = (split.labels == 0).mean()
    assert {row["value"] for row in found["constant"].values()} == {share}
    attacked = Square(epsilon=8 / 255, queries=100)(same, split.float_images(), split.labels)
    assert found["same"]["square"]["value"] == 1 - attacked.success.mean()
    # With the gradient it finds more than without.
    assert found["same"]["pgd"]["value"] <= found["same"]["square"]["value"] < 39 / 40


@pytest.fixture(scope="module")
def small(model, split, tmp_path_factory):
    """The folder of a version in bfloat16."""
    folder = tmp_path_factory.mktemp("bfloat16")
    return export(model, folder, class_names=CLASS_NAMES, bfloat16=True, test=split)


def test_weights_in_bfloat16(model, split, small, failed_checks):
    """Half the size, every signature, and the very answers of the rounded model."""
    stored = tf.train.load_checkpoint(str(small / "variables" / "variables"))
    kinds = set(stored.get_variable_to_dtype_map().values())
    assert tf.bfloat16 in kinds
    assert tf.float32 not in kinds
    loaded = tf.saved_model.load(str(small))
    assert failed_checks(loaded, read_cases(small / CASES_FILE)) == []
    serve = loaded.signatures["serving_default"]
    logits = serve(images=tf.constant(FLOATS))["logits"].numpy()
    plain = np.asarray(model(FLOATS, training=False))
    assert 0 < np.abs(logits - plain).max() < 0.02 * np.abs(plain).max()
    found = json.loads((small / "comparison.json").read_text())
    accuracy = (logits.argmax(1) == split.labels).mean()
    assert found["measured"]["bfloat16"]["accuracy"]["value"] == accuracy
    assert "| 40 test images | float32 | bfloat16 |" in (small / "MODEL_CARD.md").read_text()


def test_weights_in_bfloat16_of_a_sequential_model():
    layers = [keras.Input((12, 16, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    model = keras.Sequential(layers)
    small, rounded = with_bfloat16_weights(model)
    assert [weight.dtype for weight in small.weights] == ["bfloat16"] * 2
    weights = [np.asarray(weight) for weight in model.weights]
    for one, given in zip(rounded.weights, weights, strict=True):
        np.testing.assert_allclose(np.asarray(one), given, rtol=2**-8)


@pytest.mark.exhaustive
def test_weights_in_bfloat16_need_no_keras(small):
    assert [entry["check"] for entry in check_export(small) if not entry["passed"]] == []


def test_what_a_format_cannot_do_is_one_line(model, split, tmp_path, monkeypatch, capsys):
    settings = {"class_names": CLASS_NAMES, "calibration": IMAGES, "test": split, "name": "tiny"}

    def no_such_operation(*_, **__):
        raise ValueError("no such operation\nand a trace")

    monkeypatch.setattr("tf2onnx.convert.from_function", no_such_operation)
    with pytest.raises(InputError, match="format onnx can hold; no such operation") as refused:
        export_file(model, tmp_path / "out", format="onnx", **settings)
    assert len(str(refused.value).splitlines()) == 1
    assert not (tmp_path / "out").exists()

    def missing(name):
        raise ImportError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(InputError, match=r"ai_edge_litert.*pip install '\.\[int8\]'"):
        export_file(model, tmp_path / "out", format="int8", **settings)
    monkeypatch.undo()
    with pytest.raises(SystemExit) as stopped:
        main(["export", str(tmp_path), "--format", "int9"])
    assert stopped.value.code == 2
    assert "Did you mean 'int8'?" in capsys.readouterr().err.strip().splitlines()[-1]
