"""A real server process, asked through the generated client, curl, `Client` and a browser."""

import base64
import gzip
import itertools
import json
import shutil
import signal
import socket
import subprocess
import threading
import time

import grpc
import numpy as np
import pytest
import requests
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from robustcls import InputError
from robustcls.cli import main
from robustcls.serving import Client, ServingError

CLASS_NAMES = ["cat", "dog", "<b>bird</b>"]
PREDICTING = ["serving_default", "serving_bytes", "decode", "explain"]


@pytest.fixture(scope="session")
def predictions(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


def case(cases, signature):
    sides = {"inputs": {}, "outputs": {}}
    for key, value in cases.items():
        name, side, tensor = key.split("/")
        if name == signature:
            sides[side][tensor] = value
    return sides["inputs"], sides["outputs"]


def assert_same(received, expected, tolerance):
    received = np.asarray(received)
    if received.dtype.kind == "f":
        np.testing.assert_allclose(received, expected, atol=tolerance)
    else:
        np.testing.assert_array_equal(received.astype(expected.dtype), expected)


def request_for(signature, inputs, model="tiny"):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def tolerance(signature):
    return 1 / 255 + 1e-6 if signature == "decode" else 1e-5


@pytest.mark.parametrize("signature", PREDICTING)
def test_the_generated_client_gets_right_answers(predictions, cases, signature):
    inputs, outputs = case(cases, signature)
    answer = predictions.Predict(request_for(signature, inputs))
    assert set(answer.outputs) == set(outputs)
    for name, proto in answer.outputs.items():
        assert_same(tf.make_ndarray(proto), outputs[name], tolerance(signature))
    assert answer.model_spec.version.value == 1


@pytest.mark.parametrize("signature", PREDICTING)
@pytest.mark.parametrize("form", ["instances", "inputs"])
def test_curl_gets_right_answers(server, cases, signature, form, tmp_path):
    inputs, outputs = case(cases, signature)
    plain = {
        name: [{"b64": base64.b64encode(one).decode()} for one in value.tolist()]
        if value.dtype.kind == "S"
        else value.tolist()
        for name, value in inputs.items()
    }
    rows = [dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)]
    body = {"signature_name": signature, form: rows if form == "instances" else plain}
    (tmp_path / "body").write_text(json.dumps(body))
    command = ["curl", "-s", "-d", f"@{tmp_path / 'body'}", f"{server.model}:predict"]
    answer = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    columns = answer.get("outputs")
    if form == "instances":
        first = answer["predictions"][0]
        columns = answer["predictions"]
        if isinstance(first, dict):
            columns = {name: [row[name] for row in answer["predictions"]] for name in first}
    if len(outputs) == 1:
        columns = {next(iter(outputs)): columns}
    for name, expected in outputs.items():
        received = columns[name]
        if expected.dtype.kind == "S":
            received, expected = np.array(received), np.char.decode(expected)
        assert_same(received, expected, tolerance(signature))


def test_classify(server, predictions, cases):
    inputs, outputs = case(cases, "classify")
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = "tiny"
    request.model_spec.signature_name = "classify"
    examples = [tf.train.Example.FromString(one) for one in inputs["inputs"].tolist()]
    request.input.example_list.examples.extend(examples)
    answer = predictions.Classify(request).result.classifications
    for row, names, scores in zip(answer, outputs["classes"], outputs["scores"], strict=True):
        assert [entry.label.encode() for entry in row.classes] == names.tolist()
        np.testing.assert_allclose([entry.score for entry in row.classes], scores, atol=1e-5)
    encoded = examples[0].features.feature["image/encoded"].bytes_list.value[0]
    example = {"image/encoded": {"b64": base64.b64encode(encoded).decode()}}
    body = {"signature_name": "classify", "examples": [example]}
    (result,) = requests.post(f"{server.model}:classify", json=body).json()["results"]
    assert [label.encode() for label, _ in result] == outputs["classes"][0].tolist()


def test_status_metadata_and_health(server, channel, predictions):
    expected = {"version": "1", "state": "AVAILABLE"}
    for path in ("", "/versions/1"):
        (entry,) = requests.get(server.model + path).json()["model_version_status"]
        assert expected.items() <= entry.items()
        assert entry["status"] == {"error_code": "OK", "error_message": ""}
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "tiny"
    models = model_service_pb2_grpc.ModelServiceStub(channel)
    (entry,) = models.GetModelStatus(request).model_version_status
    assert entry.state == get_model_status_pb2.ModelVersionStatus.AVAILABLE
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "tiny"
    answer = predictions.GetModelMetadata(request)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(signatures)
    shape = signatures.signature_def["explain"].inputs["images"].tensor_shape
    assert [dim.size for dim in shape.dim] == [-1, 12, 16, 1]
    described = requests.get(f"{server.model}/metadata").json()["metadata"]["signature_def"]
    assert set(described["signature_def"]) == {*PREDICTING, "classify"}
    health = health_pb2_grpc.HealthStub(channel)
    serving = health.Check(health_pb2.HealthCheckRequest()).status
    assert serving == health_pb2.HealthCheckResponse.SERVING
    assert set(requests.get(f"{server.rest}/openapi.json").json()["paths"]) == {
        "/v1/models/tiny",
        "/v1/models/tiny/metadata",
        "/v1/models/tiny:predict",
        "/v1/models/tiny:classify",
    }


def test_optional_inputs_may_be_left_out(server, predictions, cases):
    inputs, _ = case(cases, "explain")
    answer = predictions.Predict(request_for("explain", {"images": inputs["images"]}))
    predicted = case(cases, "serving_default")[1]["classes"]
    np.testing.assert_array_equal(tf.make_ndarray(answer.outputs["class_id"]), predicted)


ZEROS = np.zeros((1, 12, 16, 1), np.float32)
GOOD = {"images": ZEROS}


def huge():
    request = request_for("", GOOD)
    request.inputs["images"].tensor_shape.dim[0].size = 10**12
    request.inputs["images"].ClearField("tensor_content")
    request.inputs["images"].float_val[:] = [0.5]
    return request


def lying():
    request = request_for("", GOOD)
    request.inputs["images"].tensor_content = b"abc"
    return request


def filtered():
    request = request_for("", GOOD)
    request.output_filter.append("logit")
    return request


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (request_for("", GOOD, "tyni"), "NOT_FOUND", "model must be one of tiny"),
        (request_for("explian", GOOD), "FAILED_PRECONDITION", "Did you mean 'explain'?"),
        (request_for("classify", GOOD), "INVALID_ARGUMENT", "inputs of classify must be among"),
        (request_for("", {"imgs": ZEROS}), "INVALID_ARGUMENT", "Did you mean 'images'?"),
        (request_for("", {}), "INVALID_ARGUMENT", "must have images; received none"),
        (request_for("", {"images": ZEROS[0]}), "INVALID_ARGUMENT", "shape [N, 12, 16, 1]"),
        (request_for("", {"images": ZEROS[:, :5]}), "INVALID_ARGUMENT", "received [1, 5, 16, 1]"),
        (request_for("", {"images": ZEROS[:0]}), "INVALID_ARGUMENT", "1 to 1024 rows"),
        (request_for("", {"images": ZEROS.astype("f8")}), "INVALID_ARGUMENT", "must be float32"),
        (request_for("", {"images": ZEROS + np.nan}), "INVALID_ARGUMENT", "must be finite"),
        (request_for("", {"images": ZEROS + 255}), "INVALID_ARGUMENT", "must be in [0, 1]"),
        (request_for("serving_bytes", {"image_bytes": [b"hi"]}), "INVALID_ARGUMENT", "JPEG or PNG"),
        (
            request_for("explain", {**GOOD, "class_id": np.array([7])}),
            "INVALID_ARGUMENT",
            "7 is not in [0, 3)",
        ),
        (
            request_for("explain", {**GOOD, "class_id": np.array([0, 1])}),
            "INVALID_ARGUMENT",
            "same number of rows",
        ),
        (request_for("", {"images": np.zeros((1500, 12, 16, 1))}), "RESOURCE_EXHAUSTED", "larger"),
        (huge(), "INVALID_ARGUMENT", "must unpack to at most"),
        (lying(), "INVALID_ARGUMENT", "do not fit"),
        (filtered(), "INVALID_ARGUMENT", "output_filter must be among"),
    ],
)
def test_grpc_refuses_with_a_reason(predictions, request_, code, message):
    with pytest.raises(grpc.RpcError) as refused:
        predictions.Predict(request_)
    assert refused.value.code().name == code
    assert message in refused.value.details()


def predict(body):
    return ("POST", ":predict", body)


@pytest.mark.parametrize(
    ("ask", "status", "message"),
    [
        (predict("{"), 400, "body must be JSON"),
        (predict("[" * 100_000), 400, "too deep"),
        (predict("[]"), 400, "must be a JSON object"),
        (predict('{"signature": "decode"}'), 400, "Did you mean 'signature_name'?"),
        (predict("{}"), 400, "either instances or inputs"),
        (predict('{"instances": []}'), 400, "list of rows"),
        (predict('{"instances": [1], "inputs": [1]}'), 400, "either instances or inputs"),
        (predict('{"instances": [[[[NaN]]]]}'), 400, "must have shape"),
        (predict('{"instances": [[1, [2]]]}'), 400, "images must be an array of float32"),
        (predict('{"instances": [true]}'), 400, "images must be an array of float32"),
        (predict('{"instances": ["x"]}'), 400, "images must be an array of float32"),
        (predict('{"instances": [1e999]}'), 400, "must have shape"),
        (predict('{"instances": [{"images": 1}, {"imgs": 1}]}'), 400, "the same names"),
        (predict('{"signature_name": 3, "inputs": 1}'), 400, "must be a string"),
        (predict('{"signature_name": "decode", "inputs": [{"b64": "?"}]}'), 400, "base64"),
        (predict('{"signature_name": "decode", "inputs": ["\\ud800"]}'), 400, "JPEG or PNG"),
        (predict('{"signature_name": "decode", "inputs": 7}'), 400, "list of strings"),
        (predict('{"inputs": {"imgs": 1}}'), 400, "Did you mean 'images'?"),
        (predict("x" * (1 << 21)), 413, "at most 1048576 bytes"),
        (
            ("POST", ":classify", '{"signature_name": "classify", "examples": [{"a": 1}]}'),
            400,
            "image/encoded",
        ),
        (("POST", ":regress", "{}"), 400, "Regress"),
        (("POST", "/versions/9:predict", '{"instances": [1]}'), 404, "available (1)"),
        (("GET", "/versions/9", None), 404, "no version 9"),
        (("GET", "/labels/stable/metadata", None), 400, "label must be one of none"),
        (("GET", ":predict", None), 400, "malformed request: GET"),
        (("GET", "/nowhere", None), 400, "malformed request: GET"),
        (("GET", "s", None), 404, "model must be one of tiny"),
    ],
)
def test_rest_refuses_with_a_reason(server, ask, status, message):
    method, path, body = ask
    answer = requests.request(method, server.model + path, data=body)
    assert answer.status_code == status
    assert message in answer.json()["error"]


def packed(text):
    return gzip.compress(text.encode())


B64 = {"spaced": lambda text: " \n".join(text), "unpadded": lambda text: text.rstrip("=")}


@pytest.mark.parametrize("form", ["gzip", "spaced", "unpadded", "another key", "another column"])
def test_rest_takes_what_tensorflow_serving_takes(server, cases, form):
    """`json_tensor.cc` and the server below it: gzip, absl's base64, keys that nobody asks for."""
    inputs, outputs = case(cases, "serving_bytes")
    text = base64.b64encode(inputs["image_bytes"][0]).decode()
    rows = [{"b64": B64.get(form, str)(text)}]
    body = {"signature_name": "serving_bytes", "inputs": {"image_bytes": rows}}
    if form == "another key":
        body["parameters"] = {"a": 1}
    if form == "another column":
        body["inputs"]["note"] = "x"
    content, headers = json.dumps(body), {}
    if form == "gzip":
        content, headers = packed(content), {"Content-Encoding": "gzip"}
    answer = requests.post(f"{server.model}:predict", data=content, headers=headers)
    assert answer.status_code == 200, answer.text
    assert_same(answer.json()["outputs"]["logits"], outputs["logits"][:1], 1e-5)


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (b"{}", 400, "must be gzip"),
        (packed("{}")[:-6], 400, "cut off"),
        (packed("x" * (1 << 21)), 413, "at most 1048576 bytes"),
    ],
    ids=["none", "cut off", "too much"],
)
def test_gzip_that_is_none_or_too_much(server, content, status, message):
    headers = {"Content-Encoding": "gzip"}
    answer = requests.post(f"{server.model}:predict", data=content, headers=headers)
    assert answer.status_code == status
    assert message in answer.json()["error"]


def test_answers_name_the_signature_that_answered(predictions):
    answer = predictions.Predict(request_for("", GOOD))
    assert answer.model_spec.signature_name == "serving_default"


def test_pages_are_for_this_machine_and_in_no_frame(server):
    for path in ("/", "/models.json", "/openapi.json"):
        good = requests.get(server.rest + path)
        assert good.status_code == 200
        assert good.headers["X-Content-Type-Options"] == "nosniff"
        assert good.headers["X-Frame-Options"] == "DENY"
        bad = requests.get(server.rest + path, headers={"Host": "evil.example:8501"})
        assert bad.status_code == 403
        assert "host must be localhost" in bad.json()["error"]
    # The interface itself has no such check, as in production.
    asked = requests.get(server.model, headers={"Host": "models.example"})
    assert asked.status_code == 200
    assert asked.headers["X-Content-Type-Options"] == "nosniff"


def test_refusals_are_counted(server):
    def count():
        text = requests.get(f"{server.rest}/monitoring/prometheus/metrics").text
        line = 'robustcls_requests_total{api="rest",code="INVALID_ARGUMENT",model="tiny"}'
        found = [row for row in text.splitlines() if row.startswith(line)]
        return float(found[0].split()[-1]) if found else 0

    before = count()
    requests.post(f"{server.model}:predict", data="{")
    requests.post(f"{server.model}:predict", data='{"inputs": {"imgs": 1}}')
    assert count() == before + 2


def test_garbage_never_harms_others(server, predictions, cases):
    """Random and damaged files, in batches with good ones."""
    draws = np.random.default_rng(0)
    inputs, outputs = case(cases, "serving_bytes")
    files = inputs["image_bytes"].tolist()
    asked = []
    for number in range(200):
        content = bytearray(files[number % 33])
        if number % 3 == 1:
            content = bytearray(draws.bytes(200))
        if number % 3 == 2:
            del content[draws.integers(40, len(content)) :]
        asked.append(
            predictions.Predict.future(
                request_for("serving_bytes", {"image_bytes": [bytes(content)]})
            )
        )
    for number, answer in enumerate(asked):
        if number % 3:
            assert answer.exception().code() == grpc.StatusCode.INVALID_ARGUMENT
        else:
            logits = tf.make_ndarray(answer.result().outputs["logits"])
            np.testing.assert_allclose(logits[0], outputs["logits"][number % 33], atol=1e-5)


def test_batches_and_requests_are_counted(server, predictions):
    before = requests.get(f"{server.rest}/monitoring/prometheus/metrics").text
    asked = [predictions.Predict.future(request_for("", GOOD)) for _ in range(50)]
    assert all(answer.result().outputs for answer in asked)
    after = requests.get(f"{server.rest}/monitoring/prometheus/metrics").text

    def value(text, line):
        return float(next((x.split()[-1] for x in text.splitlines() if x.startswith(line)), 0))

    counted = 'robustcls_requests_total{api="grpc",code="OK",model="tiny"}'
    assert value(after, counted) - value(before, counted) == 50
    rows, batches = (
        'robustcls_batch_rows_sum{model="tiny"}',
        'robustcls_batch_rows_count{model="tiny"}',
    )
    assert value(after, rows) - value(before, rows) == 50
    assert value(after, batches) - value(before, batches) < 50


def test_the_client_speaks_both(server, cases, tmp_path):
    inputs, outputs = case(cases, "serving_default")
    files = []
    for number, content in enumerate(case(cases, "serving_bytes")[0]["image_bytes"][:3].tolist()):
        files.append(tmp_path / f"{number}.png")
        files[-1].write_bytes(content)
    for address in (server.grpc, server.rest):
        with Client(address, model="tiny") as client:
            assert client.status() == {1: "AVAILABLE"}
            for answer, count in (
                (client.predict(inputs["images"]), 33),
                (client.predict_files(files), 3),
            ):
                assert answer["logits"].dtype == np.float32
                assert answer["classes"].dtype == np.int64
                for name, expected in outputs.items():
                    assert_same(answer[name], expected[:count], 1e-5)
            maps = client.call("explain", images=inputs["images"][:2], class_id=[0, 1])
            assert maps["class_id"].tolist() == [0, 1]
            decoded = client.call("decode", image_bytes=[files[0].read_bytes()])
            np.testing.assert_allclose(decoded["images"], inputs["images"][:1], atol=1e-6)
            with pytest.raises(ServingError, match=r"must be in \[0, 1\]"):
                client.predict(inputs["images"] * 255)
            with pytest.raises(InputError, match="cannot be read: No such file"):
                client.predict_files([tmp_path / "none.png"])


def test_the_client_asks_a_busy_server_again(monkeypatch):
    with Client("127.0.0.1:1", model="tiny") as client:
        codes = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE]

        def call(signature, inputs, timeout):
            if codes:
                raise ServingError(codes.pop(), "busy")
            return inputs

        monkeypatch.setattr(client._transport, "call", call)
        np.testing.assert_array_equal(client.predict(ZEROS)["images"], ZEROS)
        codes += [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL]
        with pytest.raises(ServingError, match="busy"):
            client.predict(ZEROS)
        assert codes == [grpc.StatusCode.UNAVAILABLE]


def test_the_client_gives_up_at_its_deadline():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for address in (f"127.0.0.1:{port}", f"http://127.0.0.1:{port}"):
        with Client(address, model="tiny", timeout=0.3) as client:
            with pytest.raises(ServingError) as refused:
                client.predict(ZEROS)
            assert refused.value.code in (
                grpc.StatusCode.UNAVAILABLE,
                grpc.StatusCode.DEADLINE_EXCEEDED,
            )


def texts(browser, selector):
    return browser.run(f"[...document.querySelectorAll('{selector}')].map((c) => c.textContent)")


def test_the_page_in_a_browser(server, browser, tmp_path):
    picture = tmp_path / "photo <i>.webp"
    Image.fromarray(np.tile(np.arange(0, 250, 5, np.uint8), (40, 1))).save(picture, lossless=True)
    (tmp_path / "bad.png").write_bytes(b"no image")
    message = "document.getElementById('message').textContent"
    browser.open(server.rest)
    browser.wait_for("document.querySelectorAll('#model option').length === 1")
    browser.choose_file("#file", picture)
    browser.wait_for(f"{message} === 'photo <i>.webp'")
    names = texts(browser, "#classes td:first-child")
    assert sorted(names) == sorted(CLASS_NAMES)
    assert browser.run("document.querySelectorAll('#classes b').length") == 0
    assert texts(browser, "#verdict") == names[:1]
    captions = texts(browser, "figcaption")
    assert captions[0] == "what the model sees"
    assert "Grad-CAM" in captions
    assert browser.run("document.querySelector('canvas').width") == 16
    assert browser.problems == []
    browser.choose_file("#file", tmp_path / "bad.png")
    browser.wait_for("document.getElementById('message').className === 'bad'")
    assert browser.run(message) == "image_bytes must be a JPEG or PNG file"


def test_a_taken_port_is_one_line(server, exported, capsys):
    for flag, address in (("--rest-port", server.rest), ("--grpc-port", server.grpc)):
        other = "--grpc-port" if flag == "--rest-port" else "--rest-port"
        port = address.rpartition(":")[2]
        with pytest.raises(SystemExit) as stopped:
            main(["serve", str(exported), flag, port, other, "0"])
        assert stopped.value.code == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert f"host and port must be free to listen on; 127.0.0.1:{port}" in line


def test_a_new_version_takes_over_without_a_failed_request(server, predictions, exported):
    """Last but one: it leaves version 2 behind, whose class names are others."""
    versions, failures, stop = set(), [], threading.Event()

    def ask():
        while not stop.wait(0.02):
            try:
                answer = predictions.Predict(request_for("", GOOD), timeout=30)
            except grpc.RpcError as error:
                failures.append(error)
                continue
            name = tf.make_ndarray(answer.outputs["top_k_names"])[0, 0].decode()
            versions.add((answer.model_spec.version.value, name in CLASS_NAMES))

    callers = [threading.Thread(target=ask) for _ in range(4)]
    for caller in callers:
        caller.start()
    try:
        publish(
            server,
            exported,
            2,
            "assets/class_names.txt",
            b"x\ny\nz\n",
        )
        wait_for(server, 2, "AVAILABLE")
        publish(server, exported, 3, "saved_model.pb", b"\xff\xff")
        wait_for(server, 3, "END")
    finally:
        stop.set()
        for caller in callers:
            caller.join()
    assert not failures
    assert versions == {(1, True), (2, False)}
    states = {n: state for n, (state, _) in statuses(server).items()}
    assert states == {2: "AVAILABLE", 3: "END"}
    assert "must be a SavedModel" in statuses(server)[3][1]
    assert "tiny version 3 is left out" in server.log.read_text()


def publish(server, exported, number, changed, content):
    copy = server.folder / f".copy-{number}"
    shutil.copytree(exported / "1", copy)
    (copy / changed).write_bytes(content)
    copy.rename(server.folder / str(number))


def statuses(server):
    entries = requests.get(server.model).json()["model_version_status"]
    return {int(e["version"]): (e["state"], e["status"]["error_message"]) for e in entries}


def wait_for(server, number, state):
    for _ in itertools.repeat(None, 600):
        if statuses(server).get(number, ("", ""))[0] == state:
            return
        time.sleep(0.1)
    raise AssertionError(f"version {number} never became {state}")


def test_told_to_stop_the_server_answers_what_is_under_way(server, predictions):
    """Last: the server is gone after it."""
    under_way = [predictions.Predict.future(request_for("", GOOD)) for _ in range(20)]
    under_way[0].result()
    server.process.send_signal(signal.SIGTERM)
    for answer in under_way:
        assert answer.result().outputs
    assert server.process.wait(30) == 0
