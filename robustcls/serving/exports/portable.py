"""A classifier as a file for other runtimes: TFLite in int8, ONNX, OpenVINO."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robustcls._validation import InputError
from robustcls.data.splits import Split
from robustcls.familiarity.familiarity import Familiarity
from robustcls.runs import write_json
from robustcls.serving.exports.archive import save_endpoints, write_folder
from robustcls.serving.exports.classifier_servable import (
    CLASS_NAMES,
    USE,
    limits,
    served_classifier,
)
from robustcls.serving.exports.conversion_cost import (
    COMPARISON,
    Predict,
    compare,
    weights_megabytes,
)
from robustcls.serving.exports.endpoints import Endpoint, images_spec
from robustcls.serving.exports.familiar import USE as USE_FAMILIAR
from robustcls.serving.exports.familiar import familiar_answers, familiar_meanings
from robustcls.serving.exports.model_card import ModelCard, write_card
from robustcls.serving.optional_packages import require

#: Training images that the ranges of int8 activations are taken from.
CALIBRATION_IMAGES = 200
_OPSET = 18


@dataclass(frozen=True)
class _Format:
    """One form.

    Attributes:
        file: the one that its runtime is given.
        convert: an endpoint and images for ranges to files, contents by name.
        load: that file to what answers.
    """

    file: str
    convert: Callable[[Endpoint, np.ndarray], dict[str, bytes]]
    load: Callable[[Path], Predict]


def export_file(
    model: Any,
    out: Path | str,
    *,
    format: str,
    class_names: Sequence[str],
    calibration: np.ndarray,
    test: Split,
    name: str,
    version: int | None = None,
    card: Mapping[str, Any] | None = None,
    familiarity: Familiarity | None = None,
) -> Path:
    """Writes a classifier as the next version in `out`, for a runtime, measured beside float32.

    Images in are float32 [N, H, W, C] in [0, 1] and logits out are float32 [N, K] in all formats.

    Args:
        model: a Keras classifier of any form that `attacks.adapt` takes, or what it returned.
        out: the model's folder of version folders.
        format: int8 (`model.tflite`: weights and activations in int8), onnx (`model.onnx`) or
            openvino (`model.xml` and `model.bin`).
        class_names: K names.
        calibration: uint8 [N, H, W, C], training images that int8's ranges are taken from.
        test: the images that accuracy and speed are measured on.
        name: the model's name on the card.
        version: its number; None takes the next.
        card: fields of the model card to replace.
        familiarity: for onnx and openvino, what every answer says beside the logits.

    Returns:
        The folder of the version, with the file, `class_names.txt`, `MODEL_CARD.md` and
        `comparison.json`.

    Raises:
        InputError: as for `export`, a package that is not installed, or a model that the format
            cannot hold.
    """
    require(format, f"format {format}")
    chosen = _FORMATS[format]
    served = served_classifier(model, class_names, calibration)
    image_shape, folded = served.image_shape, served.network
    if familiarity is not None and format == "int8":
        raise InputError("familiarity must not come with format int8, which holds logits alone.")
    endpoint = _endpoint(folded, familiarity)
    contents = _converted(chosen, format, endpoint, calibration)
    meanings, use = {}, USE
    if familiarity is not None:
        few = calibration[:8].astype(np.float32) / np.float32(255)
        familiar_answers(familiarity, few, np.asarray(folded(few, training=False)))
        meanings, use = familiar_meanings(familiarity), (USE_FAMILIAR, *USE[1:])
    fields = {
        "summary": f"A classifier of images {list(image_shape)} into {len(class_names)} classes.",
        "use": use,
        "meanings": meanings,
        "limits": limits(served.read),
        **(card or {}),
    }
    sizes = ", ".join(map(str, image_shape))
    row = {
        "name": chosen.file,
        "inputs": f"`images` float32 [N, {sizes}]",
        "outputs": f"`logits` float32 [N, {len(class_names)}]"
        + (", `familiarity` float32 [N], `familiar` bool [N]" if familiarity is not None else ""),
    }
    reference = tf.function(lambda images: folded(images, training=False), autograph=False)

    def fill(folder: Path) -> None:
        for file, content in contents.items():
            (folder / file).write_bytes(content)
        lines = "".join(f"{line}\n" for line in class_names)
        (folder / CLASS_NAMES).write_text(lines, encoding="utf-8")
        found = compare(
            format,
            chosen.load(folder / chosen.file),
            lambda images: reference(tf.constant(images)).numpy(),
            test,
            {"float32": weights_megabytes(folded), format: sum(map(len, contents.values())) / 1e6},
            folded,
        )
        write_json(folder / COMPARISON, found)
        write_card(folder, name, ModelCard(**fields, comparison=found), [row])

    return write_folder(out, fill, version)


def _converted(
    chosen: _Format, format: str, endpoint: Endpoint, images: np.ndarray
) -> dict[str, bytes]:
    try:
        with _quiet():
            return chosen.convert(endpoint, images)
    except Exception as error:  # the converters raise nearly anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"model must be one that format {format} can hold; {reason[:300]}."
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Both converters warn of what is meant to be."""
    loggers = [logging.getLogger(name) for name in ("tf2onnx", "absl", "tensorflow")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _endpoint(model: keras.Model, familiarity: Familiarity | None) -> Endpoint:
    def logits(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"logits": model(images, training=False)}

    serve = logits if familiarity is None else familiarity.served(model)
    return Endpoint("serving_default", serve, (images_spec(model.inputs[0].shape[1:]),))


def _to_int8(endpoint: Endpoint, images: np.ndarray) -> dict[str, bytes]:
    def samples() -> Iterator[list[np.ndarray]]:
        for image in images:
            yield [image[None].astype(np.float32) / np.float32(255)]

    with tempfile.TemporaryDirectory() as folder:
        save_endpoints(Path(folder), [endpoint])
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = samples
        # Refuses what int8 has no operation for, where the default would fall back to float32.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        return {"model.tflite": bytes(converter.convert())}


def _load_int8(path: Path) -> Predict:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=path.read_bytes())
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    sizes: set[int] = set()

    def predict(images: np.ndarray) -> np.ndarray:
        if sizes != {len(images)}:
            interpreter.resize_tensor_input(source["index"], images.shape)
            interpreter.allocate_tensors()
            sizes.clear()
            sizes.add(len(images))
        interpreter.set_tensor(source["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(target["index"])

    return predict


def _to_onnx(endpoint: Endpoint, images: np.ndarray) -> dict[str, bytes]:
    import tf2onnx

    function = tf.function(endpoint.function, autograph=False)
    made, _ = tf2onnx.convert.from_function(function, endpoint.inputs, opset=_OPSET)
    return {"model.onnx": made.SerializeToString()}


def _load_onnx(path: Path) -> Predict:
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda images: session.run(["logits"], {"images": images})[0]


def _to_openvino(endpoint: Endpoint, images: np.ndarray) -> dict[str, bytes]:
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        save_endpoints(Path(folder), [endpoint])
        # `openvino.convert_model` reports its use to the makers.
        made = openvino.Core().read_model(folder)
        path = Path(folder) / "model.xml"
        openvino.save_model(made, path, compress_to_fp16=False)
        return {name: (Path(folder) / name).read_bytes() for name in ("model.xml", "model.bin")}


def _load_openvino(path: Path) -> Predict:
    import openvino

    # Else processors that can compute in bfloat16 do.
    precision = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(path, "CPU", precision)
    return lambda images: compiled({"images": images})["logits"].copy()


_FORMATS = {
    "int8": _Format("model.tflite", _to_int8, _load_int8),
    "onnx": _Format("model.onnx", _to_onnx, _load_onnx),
    "openvino": _Format("model.xml", _to_openvino, _load_openvino),
}
