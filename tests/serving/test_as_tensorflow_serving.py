"""Request by request: what TensorFlow Serving's code answers, and the local server with it.

Each row names the function of TensorFlow Serving (github.com/tensorflow/serving, below
`tensorflow_serving/`) that decides, as read in its sources of July 2026. Rows of `STRICTER` are the
known differences: the local server refuses with a reason what production computes with.
"""

import base64
import json
import zlib

import grpc
import numpy as np
import pytest
import requests
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

REST = "model_servers/http_rest_api_util.cc ParseModelInfo"
HANDLER = "model_servers/http_rest_api_handler.cc GetInfoMap"
JSON = "util/json_tensor.cc ParseJson"
FILL = "util/json_tensor.cc FillPredictRequestFromJson"
ROWS = "util/json_tensor.cc FillTensorMapFromInstancesList"
COLUMNS = "util/json_tensor.cc FillTensorMapFromInputsMap"
VALUE = "util/json_tensor.cc AddValueToTensor"
BYTES = "util/json_tensor.cc JsonDecodeBase64Object"
EXAMPLES = "util/json_tensor.cc FillClassifyRegressRequestFromJson"
CLASSIFY = "servables/tensorflow/classifier.cc GetClassificationSignatureDef"
STATUS = "model_servers/get_model_status_impl.cc GetModelStatus"
SERVER = "model_servers/server_core.cc ServableRequestFromModelSpec"
GZIP = "util/net_http/server/internal/evhttp_request.cc ReadRequestGzipBytes"
HTTP = "model_servers/http_server.cc Dispatch"
PREDICT = "servables/tensorflow/predict_util.cc PreProcessPrediction"
RUN = "servables/tensorflow/predict_util.cc RunPredict"
METADATA = "servables/tensorflow/get_model_metadata_impl.cc GetModelMetadata"
INPUT = "servables/tensorflow/util.cc InputToSerializedExampleTensor"

IMAGE = np.full((12, 16, 1), 0.5).tolist()
PNG = base64.b64encode(tf.io.encode_png(np.full((12, 16, 1), 128, np.uint8)).numpy()).decode()
EXAMPLE = {"image/encoded": {"b64": PNG}}


def post(body, path=":predict", **headers):
    content = body if isinstance(body, str | bytes) else json.dumps(body)
    return ("POST", path, content, headers)


def get(path, method="GET"):
    return (method, path, None, {})


def explain(**inputs):
    return post({"signature_name": "explain", **inputs})


def files(**body):
    return post({"signature_name": "serving_bytes", **body})


def classify(**body):
    return post({"signature_name": "classify", **body}, ":classify")


GOOD = {"instances": [IMAGE]}
REST_ROWS = {
    "rows": (FILL, post(GOOD), 200),
    "named rows": (ROWS, post({"instances": [{"images": IMAGE}]}), 200),
    "columns": (COLUMNS, post({"inputs": [IMAGE]}), 200),
    "named columns": (COLUMNS, post({"inputs": {"images": [IMAGE]}}), 200),
    "an empty body": (JSON, post(""), 400),
    "no JSON": (JSON, post("{'a'}"), 400),
    "a list": (JSON, post("[1]"), 400),
    "text after the object": (JSON, post(json.dumps(GOOD) + " and so on"), 200),
    "another key": (FILL, post({**GOOD, "parameters": {"a": [1]}}), 200),
    "a key instead": (FILL, post({"instance": [IMAGE]}), 400),
    "rows and columns": (FILL, post({**GOOD, "inputs": [IMAGE]}), 400),
    "neither": (FILL, post({}), 400),
    "no list": (FILL, post({"instances": 3}), 400),
    "no rows": (FILL, post({"instances": []}), 400),
    "a number as signature": (FILL, post({"signature_name": 1, **GOOD}), 400),
    "no such signature": (HANDLER, post({"signature_name": "none", **GOOD}), 400),
    "the empty signature": (HANDLER, post({"signature_name": "", **GOOD}), 200),
    "an unknown name in a row": (ROWS, post({"instances": [{"images": IMAGE, "a": 1}]}), 400),
    "an unknown column beside": (COLUMNS, post({"inputs": {"images": [IMAGE], "a": 1}}), 200),
    "an unknown column alone": (COLUMNS, post({"inputs": {"image": [IMAGE]}}), 400),
    "objects and lists": (ROWS, post({"instances": [{"images": IMAGE}, IMAGE]}), 400),
    "lists and objects": (ROWS, post({"instances": [IMAGE, {"images": IMAGE}]}), 400),
    "rows of two shapes": (ROWS, post({"instances": [IMAGE, IMAGE[:5]]}), 400),
    "the wrong shape": (RUN, post({"instances": [IMAGE[:5]]}), 400),
    "every input, in rows": (ROWS, explain(instances=[{"images": IMAGE, "class_id": 1}]), 200),
    "every input, in columns": (COLUMNS, explain(inputs={"images": [IMAGE], "class_id": [1]}), 200),
    "a default left out of rows": (ROWS, explain(instances=[{"images": IMAGE}]), 400),
    "a default left out of columns": (COLUMNS, explain(inputs={"images": [IMAGE]}), 400),
    "plain rows for two inputs": (ROWS, explain(instances=[IMAGE]), 400),
    "plain columns for two inputs": (COLUMNS, explain(inputs=[IMAGE]), 400),
    "a class that there is not": (RUN, explain(inputs={"images": [IMAGE], "class_id": [3]}), 400),
    "a fraction as integer": (VALUE, explain(inputs={"images": [IMAGE], "class_id": [1.0]}), 400),
    "65 bits": (VALUE, explain(inputs={"images": [IMAGE], "class_id": [2**63]}), 400),
    "more bits": (VALUE, explain(inputs={"images": [IMAGE], "class_id": [2**70]}), 400),
    "true as a number": (VALUE, post({"instances": [True]}), 400),
    "text as a number": (VALUE, post({"instances": ["x"]}), 400),
    "null as a number": (VALUE, post({"instances": [None]}), 400),
    "true among numbers": (VALUE, post(json.dumps(GOOD).replace("0.5", "true", 1)), 400),
    "base64": (BYTES, files(instances=[{"b64": PNG}]), 200),
    "base64 by name": (BYTES, files(inputs={"image_bytes": [{"b64": PNG}]}), 200),
    "white space in base64": (BYTES, files(inputs=[{"b64": " \n".join(PNG)}]), 200),
    "base64 without padding": (BYTES, files(inputs=[{"b64": PNG.rstrip("=")}]), 200),
    "no base64": (BYTES, files(inputs=[{"b64": "?"}]), 400),
    "a key beside b64": (BYTES, files(instances=[{"b64": PNG, "a": 1}]), 400),
    "bytes of no image": (RUN, files(inputs=["text"]), 400),
    "gzip": (
        GZIP,
        post(zlib.compress(json.dumps(GOOD).encode(), wbits=31), **{"Content-Encoding": "gzip"}),
        200,
    ),
    "gzip that is none": (GZIP, post("{}", **{"Content-Encoding": "gzip"}), 400),
    "gzip cut off": (
        GZIP,
        post(zlib.compress(b"{}", wbits=31)[:-3], **{"Content-Encoding": "gzip"}),
        400,
    ),
    "classify": (EXAMPLES, classify(examples=[EXAMPLE]), 200),
    "classify with another feature": (EXAMPLES, classify(examples=[{**EXAMPLE, "a": [1, 2]}]), 200),
    "classify with a list": (EXAMPLES, classify(examples=[{"image/encoded": [{"b64": PNG}]}]), 200),
    "classify with a context": (EXAMPLES, classify(context=EXAMPLE, examples=[{}, {}]), 200),
    "classify without the feature": (RUN, classify(examples=[{"a": 1}]), 400),
    "classify without examples": (EXAMPLES, classify(), 400),
    "classify with no example": (EXAMPLES, classify(examples=[]), 400),
    "classify with a number": (EXAMPLES, classify(examples=[1]), 400),
    "classify with 65 bits": (EXAMPLES, classify(examples=[{"a": 2**64}]), 400),
    "classify by the default": (CLASSIFY, post({"examples": [EXAMPLE]}, ":classify"), 400),
    "regress": (CLASSIFY, post({"examples": [EXAMPLE]}, ":regress"), 400),
    "states": (STATUS, get(""), 200),
    "state of a version": (STATUS, get("/versions/1"), 200),
    "no such version": (STATUS, get("/versions/7"), 404),
    "states by a label": (STATUS, get("/labels/none"), 200),
    "metadata": (METADATA, get("/metadata"), 200),
    "metadata of a version": (METADATA, get("/versions/1/metadata"), 200),
    "metadata of no version": (SERVER, get("/versions/7/metadata"), 404),
    "metadata by a label": (SERVER, get("/labels/none/metadata"), 400),
    "a version": (SERVER, post(GOOD, "/versions/1:predict"), 200),
    "no such version to ask": (SERVER, post(GOOD, "/versions/7:predict"), 404),
    "65 bits of version": (REST, post(GOOD, f"/versions/{2**64}:predict"), 400),
    "no such label": (SERVER, post(GOOD, "/labels/none:predict"), 400),
    "another model": (SERVER, post(GOOD, "s:predict"), 404),
    "another verb": (REST, post(GOOD, ":embed"), 400),
    "GET for POST": (REST, get(":predict"), 400),
    "POST for GET": (REST, post(GOOD, "/metadata"), 400),
    "PUT": (REST, get("", "PUT"), 400),
    "no such part": (REST, get("/nowhere"), 400),
    "no model": (STATUS, get("/../../models"), 400),
    "any case": (REST, get("/../../Models/tiny/METADATA"), 200),
    "another address": (HTTP, get("/../../../v3"), 404),
}
STRICTER = {
    "NaN": (JSON, post(json.dumps(GOOD).replace("0.5", "NaN", 1)), 400),
    "outside [0, 1]": (RUN, post({"instances": [np.full((12, 16, 1), 2.0).tolist()]}), 400),
}


def ask(server, request):
    method, path, content, headers = request
    # `requests` would take "/../" out before it asks.
    url = server.model + path
    while "/../" in url:
        head, _, tail = url.partition("/../")
        url = f"{head.rpartition('/')[0]}/{tail}"
    return requests.request(method, url, data=content, headers=headers)


@pytest.mark.parametrize("row", REST_ROWS | STRICTER)
def test_rest(server, row):
    _, request, status = (REST_ROWS | STRICTER)[row]
    answer = ask(server, request)
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    if status != 200:
        assert len(answer.json()["error"].splitlines()) == 1


def test_json_names_what_it_has_no_default_for(server):
    answer = ask(server, explain(instances=[{"images": IMAGE}]))
    assert answer.json()["error"] == (
        "inputs of explain must have class_id; received none. "
        "JSON has no defaults, of which gRPC takes class_id -1."
    )


def test_what_context_and_examples_say_is_one(server):
    whole = ask(server, classify(examples=[EXAMPLE])).json()["results"]
    assert ask(server, classify(context=EXAMPLE, examples=[{}])).json()["results"] == whole


def filled(kind, signature="", **spec):
    message = kind()
    message.model_spec.name = "tiny"
    message.model_spec.signature_name = signature
    for name, value in spec.items():
        if name == "version":
            message.model_spec.version.value = value
        else:
            setattr(message.model_spec, name, value)
    return message


def predicting(signature="", names=(), inputs=None, **spec):
    request = filled(predict_pb2.PredictRequest, signature, **spec)
    images = np.full((1, 12, 16, 1), 0.5, np.float32)
    for name, value in ({"images": images} if inputs is None else inputs).items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    request.output_filter.extend(names)
    return "Predict", request


def classifying(signature="classify", context=None, count=1):
    request = filled(classification_pb2.ClassificationRequest, signature)
    whole = tf.train.Example()
    whole.features.feature["image/encoded"].bytes_list.value.append(base64.b64decode(PNG))
    if context:
        request.input.example_list_with_context.context.CopyFrom(whole)
        request.input.example_list_with_context.examples.add()
    else:
        request.input.example_list.examples.extend([whole] * count)
    return "Classify", request


def metadata(*fields, **spec):
    request = filled(get_model_metadata_pb2.GetModelMetadataRequest, **spec)
    request.metadata_field.extend(fields)
    return "GetModelMetadata", request


def status(**spec):
    return "GetModelStatus", filled(get_model_status_pb2.GetModelStatusRequest, **spec)


SERIALIZED = classifying()[1].input.example_list.examples[0].SerializeToString()
GRPC_ROWS = {
    "predict": (RUN, predicting(), "OK"),
    "no model's name": (SERVER, predicting(name=""), "INVALID_ARGUMENT"),
    "another model": (SERVER, predicting(name="s"), "NOT_FOUND"),
    "no such version": (SERVER, predicting(version=7), "NOT_FOUND"),
    "no such label": (SERVER, predicting(version_label="a"), "INVALID_ARGUMENT"),
    "no such signature": (RUN, predicting("none"), "FAILED_PRECONDITION"),
    "an input too many": (
        PREDICT,
        predicting(inputs={"images": np.zeros((1, 12, 16, 1), np.float32), "a": 1.0}),
        "INVALID_ARGUMENT",
    ),
    "no input": (PREDICT, predicting(inputs={}), "INVALID_ARGUMENT"),
    "a default left out": (PREDICT, predicting("explain"), "OK"),
    "a signature of Classify": (
        PREDICT,
        predicting("classify", inputs={"inputs": [SERIALIZED]}),
        "OK",
    ),
    "some outputs": (PREDICT, predicting(names=["logits"]), "OK"),
    "no such output": (PREDICT, predicting(names=["logit"]), "INVALID_ARGUMENT"),
    "an output twice": (PREDICT, predicting(names=["logits", "logits"]), "INVALID_ARGUMENT"),
    "another type": (
        RUN,
        predicting(inputs={"images": np.zeros((1, 12, 16, 1))}),
        "INVALID_ARGUMENT",
    ),
    "classify": (CLASSIFY, classifying(), "OK"),
    "classify with a context": (INPUT, classifying(context=True), "OK"),
    "classify nothing": (INPUT, classifying(count=0), "INVALID_ARGUMENT"),
    "classify by the default": (CLASSIFY, classifying(""), "INVALID_ARGUMENT"),
    "classify by no signature": (CLASSIFY, classifying("none"), "INVALID_ARGUMENT"),
    "metadata": (METADATA, metadata("signature_def"), "OK"),
    "metadata twice": (METADATA, metadata("signature_def", "signature_def"), "OK"),
    "metadata of nothing": (METADATA, metadata(), "INVALID_ARGUMENT"),
    "metadata of another kind": (METADATA, metadata("a"), "INVALID_ARGUMENT"),
    "status": (STATUS, status(), "OK"),
    "status of no version": (STATUS, status(version=7), "NOT_FOUND"),
    "status of another model": (STATUS, status(name="s"), "NOT_FOUND"),
}


@pytest.mark.parametrize("row", GRPC_ROWS)
def test_grpc(channel, row):
    _, (call, request), expected = GRPC_ROWS[row]
    predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    models = model_service_pb2_grpc.ModelServiceStub(channel)
    stub = models if call == "GetModelStatus" else predictions
    try:
        answer, code, reason = getattr(stub, call)(request), "OK", "none"
    except grpc.RpcError as error:
        answer, code, reason = None, error.code().name, error.details()
    assert (code, len(reason.splitlines())) == (expected, 1), reason
    if call in ("Predict", "Classify") and answer is not None:
        assert answer.model_spec.version.value == 1
        asked = request.model_spec.signature_name
        assert answer.model_spec.signature_name == (asked or "serving_default")


def test_classify_with_a_context_answers_as_without(channel):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    answers = [stub.Classify(classifying(context=one)[1]).result for one in (None, True)]
    assert answers[0] == answers[1]
