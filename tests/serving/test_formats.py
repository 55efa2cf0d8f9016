"""Exports that are not float32 SavedModels: bfloat16, int8, ONNX."""

import importlib
import json

import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from robustcls import InputError
from robustcls.cli import main
from robustcls.data.splits import Split
from robustcls.serving import export
from robustcls.serving.checking.fresh_process import read_cases
from robustcls.serving.checking.parity import check_export
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


def run_onnx(path, images):
    return onnxruntime.InferenceSession(str(path)).run(["logits"], {"images": images})[0]


@pytest.mark.parametrize(
    ("format", "file", "run", "tolerance"),
    [("int8", "model.tflite", run_int8, 0.02), ("onnx", "model.onnx", run_onnx, 1e-5)],
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
    assert found["measured"][format]["megabytes"] == (version / file).stat().st_size / 1e6
    card = (version / "MODEL_CARD.md").read_text()
    assert f"| accuracy, % | 97.50 | {100 * accuracy:.2f} |" in card
    assert f"| `{file}` | `images` float32 [N, 12, 16, 1] | `logits` float32 [N, 3] |" in card


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
