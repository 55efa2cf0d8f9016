"""The open protocol, asked by NVIDIA's client and by hand: the answers of the other interface."""

import json

import grpc
import numpy as np
import pytest
import requests
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from robustcls.serving import Client
from robustcls.serving.server.open_inference.messages import _MESSAGES, message

SIGNATURES = ["serving_default", "serving_bytes", "decode", "explain"]


@pytest.fixture(scope="module")
def asked(server, cases):
    """For each signature its inputs, and what TensorFlow Serving's interface answers to them."""
    found = {}
    with Client(server.grpc, model="tiny") as client:
        for signature in SIGNATURES:
            # Few, so that both interfaces compute them in one batch of the same size.
            inputs = {
                key.split("/")[2]: value[:4].astype(object)
                if value.dtype.kind == "S"
                else value[:4]
                for key, value in cases.items()
                if key.startswith(f"{signature}/inputs/")
            }
            found[signature] = inputs, client.call(signature, **inputs)
    return found


@pytest.fixture(scope="module", params=["http", "grpc"])
def triton(request, server):
    """NVIDIA's client, and its module."""
    module, address = triton_grpc, server.grpc
    if request.param == "http":
        module, address = triton_http, server.rest.removeprefix("http://")
    with module.InferenceServerClient(address) as client:
        yield client, module


def to_inputs(module, inputs, **settings):
    found = []
    for name, array in inputs.items():
        found.append(module.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype)))
        found[-1].set_data_from_numpy(array, **settings)
    return found


def assert_same_bits(received, expected):
    assert received.dtype == expected.dtype
    assert received.shape == expected.shape
    assert received.tolist() == expected.tolist()
    if received.dtype != object:
        assert received.tobytes() == expected.tobytes()


@pytest.mark.parametrize("signature", SIGNATURES)
def test_tritonclient_gets_the_same_bits(triton, asked, signature):
    client, module = triton
    inputs, expected = asked[signature]
    answer = client.infer(
        "tiny",
        to_inputs(module, inputs),
        request_id="7",
        parameters={"signature_name": signature},
    )
    said = answer.get_response()
    assert (said["id"] if module is triton_http else said.id) == "7"
    for name, value in expected.items():
        assert_same_bits(answer.as_numpy(name), value)


def test_tritonclient_chooses_outputs_version_form_and_compression(triton, asked):
    client, module = triton
    inputs, expected = asked["serving_default"]
    plain = {"binary_data": False} if module is triton_http else {}
    packed = {"http": {"request_compression_algorithm": "deflate"}, "grpc": {}}
    packed["grpc"]["compression_algorithm"] = "gzip"
    answer = client.infer(
        "tiny",
        to_inputs(module, inputs, **plain),
        "1",
        outputs=[module.InferRequestedOutput(name, **plain) for name in ("top_k_names", "logits")],
        **packed["http" if module is triton_http else "grpc"],
    )
    assert_same_bits(answer.as_numpy("logits"), expected["logits"])
    names = answer.as_numpy("top_k_names").tolist()
    encoded = [[getattr(one, "encode", lambda one=one: one)() for one in row] for row in names]
    assert encoded == expected["top_k_names"].tolist()
    assert answer.as_numpy("classes") is None


def test_tritonclient_sees_what_there_is(triton):
    client, module = triton
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny")
    assert client.is_model_ready("tiny", "1")
    assert not client.is_model_ready("tiny", "7")
    form = {"as_json": True} if module is triton_grpc else {}
    about = client.get_server_metadata(**form)
    assert about["name"] == "robustcls"
    assert about["extensions"] == ["binary_tensor_data"]
    about = client.get_model_metadata("tiny", **form)
    assert about["versions"] == ["1"]
    assert about["platform"] == "tensorflow_savedmodel"
    (images,) = about["inputs"]
    assert (images["name"], images["datatype"]) == ("images", "FP32")
    assert [int(size) for size in images["shape"]] == [-1, 12, 16, 1]
    kinds = {entry["name"]: entry["datatype"] for entry in about["outputs"]}
    assert kinds["classes"] == "INT64"
    assert kinds["top_k_names"] == "BYTES"


def test_tritonclient_is_told_why(triton):
    client, module = triton
    images = np.full((1, 12, 16, 1), 2, np.float32)
    for model, version, signature, name, message_ in (
        ("tiny", "", "", "images", "must be in [0, 1]"),
        ("tyni", "", "", "images", "model must be one of tiny"),
        ("tiny", "7", "", "images", "one of those available (1)"),
        ("tiny", "stable", "", "images", "label must be one of none"),
        ("tiny", "", "explian", "images", "Did you mean 'explain'?"),
        ("tiny", "", "", "imgs", "Did you mean 'images'?"),
    ):
        parameters = {"signature_name": signature} if signature else None
        with pytest.raises(InferenceServerException) as refused:
            client.infer(model, to_inputs(module, {name: images}), version, parameters=parameters)
        assert message_ in refused.value.message()
    wanted = [module.InferRequestedOutput("logit")]
    with pytest.raises(InferenceServerException, match="Did you mean 'logits'"):
        client.infer("tiny", to_inputs(module, {"images": images}), outputs=wanted)


def test_values_within_the_messages_come_back_so(server, channel, asked):
    """As clients without raw bytes ask."""
    inputs, expected = asked["explain"]
    request = message("ModelInferRequest")(model_name="tiny", id="a")
    request.parameters["signature_name"].string_param = "explain"
    images = request.inputs.add(name="images", datatype="FP32", shape=inputs["images"].shape)
    images.contents.fp32_contents.extend(inputs["images"].ravel().tolist())
    ids = request.inputs.add(name="class_id", datatype="INT64", shape=[4])
    ids.contents.int64_contents.extend(inputs["class_id"].tolist())
    call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    answer = message("ModelInferResponse").FromString(call(request.SerializeToString()))
    assert (answer.model_version, answer.id, len(answer.raw_output_contents)) == ("1", "a", 0)
    found = {entry.name: entry for entry in answer.outputs}
    assert list(found["class_id"].contents.int64_contents) == expected["class_id"].tolist()
    maps = np.array(found["positive"].contents.fp32_contents, np.float32)
    assert_same_bits(maps.reshape(found["positive"].shape), expected["positive"])
    with pytest.raises(grpc.RpcError) as refused:
        call(b"\xff")
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "inference.ModelInferRequest" in refused.value.details()


def test_the_messages_are_those_of_the_protocol():
    """Field by field, those of NVIDIA's package."""
    for name in _MESSAGES:
        outer, _, inner = name.rpartition(".")
        theirs = getattr(getattr(service_pb2, outer) if outer else service_pb2, inner).DESCRIPTOR
        ours = message(name).DESCRIPTOR
        for field in ours.fields:
            same = theirs.fields_by_name[field.name]
            assert (field.number, field.type) == (same.number, same.type), f"{name}.{field.name}"
            assert field.is_repeated == same.is_repeated
            if field.message_type:
                assert field.message_type.full_name == same.message_type.full_name
            oneofs = [one.containing_oneof and one.containing_oneof.name for one in (field, same)]
            assert oneofs[0] == oneofs[1]


ZEROS = {"name": "images", "datatype": "FP32", "shape": [1, 12, 16, 1], "data": [0] * 192}


def body(*inputs, **keys):
    return json.dumps({"inputs": list(inputs), **keys})


def without(key, **more):
    return {name: value for name, value in {**ZEROS, **more}.items() if name != key}


BINARY = body(without("data", parameters={"binary_data_size": 768}))


@pytest.mark.parametrize(
    ("content", "length", "message_"),
    [
        ("{", None, "body must be JSON"),
        ("[" * 100_000, None, "too deep"),
        ("[]", None, "body must be a JSON object"),
        ("{}", None, "inputs must be a list"),
        (body(1), None, "inputs must be a JSON object"),
        (body(), None, "must have images"),
        (body(ZEROS, ZEROS), None, "images comes twice"),
        (body(without("name")), None, "name must be a string"),
        (body(without("datatype")), None, "datatype must be one of BOOL"),
        (body({**ZEROS, "datatype": "FP23"}), None, "Did you mean 'FP32'?"),
        (body({**ZEROS, "datatype": "FP64"}), None, "images must be float32"),
        (body(without("shape")), None, "shape must be a list of sizes"),
        (body({**ZEROS, "shape": [-1, 12, 16, 1]}), None, "shape must be a list of sizes"),
        (body({**ZEROS, "shape": [True, 12, 16, 1]}), None, "shape must be a list of sizes"),
        (body({**ZEROS, "shape": [2, 12, 16, 1]}), None, "received 192 values"),
        (body({**ZEROS, "shape": [10**9] * 5}), None, "received 192 values"),
        (body({**ZEROS, "shape": [192]}), None, "must have shape [N, 12, 16, 1]"),
        (body(without("data")), None, "either data or binary_data_size"),
        (body({**ZEROS, "data": 3}), None, "data must be a list"),
        (body({**ZEROS, "data": [[0], 1]}), None, "rows of one shape"),
        (body({**ZEROS, "data": [True] + [0] * 191}), None, "received other values"),
        (body({**ZEROS, "datatype": "BYTES"}), None, "data must be strings"),
        (body(ZEROS, parameters=3), None, "parameters must be a JSON object"),
        (body(ZEROS, parameters={"binary_data_output": 1}), None, "must be true or false"),
        (body(ZEROS, parameters={"signature_name": 1}), None, "signature_name must be a string"),
        (body(ZEROS, id=1), None, "id must be a string"),
        (body(ZEROS, outputs=[{"name": "logit"}]), None, "Did you mean 'logits'?"),
        (body(ZEROS, outputs=[{"name": "logits"}] * 2), None, "logits comes twice"),
        (
            body(ZEROS, outputs=[{"name": "logits", "parameters": {"classification": 2}}]),
            None,
            "classification, which is not served",
        ),
        (BINARY, "999999", "must be the bytes of JSON"),
        (BINARY, "-1", "must be the bytes of JSON"),
        (BINARY + "x", str(len(BINARY)), "at most the 1 bytes that follow"),
        (BINARY + "x" * 769, str(len(BINARY)), "1 are left"),
        (BINARY.replace("768", "767") + "x" * 767, str(len(BINARY)), "received 767 bytes"),
        (BINARY.replace("FP32", "BYTES") + "x" * 768, str(len(BINARY) + 1), "received 768 bytes"),
    ],
)
def test_what_is_wrong_is_said(server, content, length, message_):
    headers = {} if length is None else {"Inference-Header-Content-Length": length}
    url = f"{server.rest}/v2/models/tiny/infer"
    answer = requests.post(url, data=content, headers=headers)
    assert answer.status_code == 400
    assert message_ in answer.json()["error"]


def test_plain_answers_and_addresses(server):
    url = f"{server.rest}/v2/models/tiny"
    answer = requests.post(f"{url}/versions/1/infer", data=body(ZEROS)).json()
    assert answer["model_version"] == "1"
    logits = next(entry for entry in answer["outputs"] if entry["name"] == "logits")
    assert (logits["datatype"], logits["shape"], len(logits["data"])) == ("FP32", [1, 3], 3)
    for address, status in (
        ("/v2", 200),
        ("/v2/health/live", 200),
        ("/v2/health/ready", 200),
        ("/v2/models/tiny/ready", 200),
        ("/v2/models/tiny/versions/7/ready", 400),
        ("/v2/models/tiny/versions/7", 404),
        ("/v2/models/tyni", 404),
        ("/v2/models/tyni/ready", 404),
        (f"/v2/models/tiny/versions/{2**64}", 400),
        ("/v2/models/tiny/infer", 405),
        ("/v2/health", 404),
    ):
        answer = requests.get(server.rest + address)
        assert answer.status_code == status, address
        assert isinstance(answer.json(), dict)
