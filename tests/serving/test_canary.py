"""Two versions side by side, their labels switched under load."""

import shutil
import threading
import time

import grpc
import numpy as np
import pytest
import requests
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

NAMES = {1: b"cat", 3: b"xat"}
POLICY = """model_config_list {{ config {{
  name: "tiny" base_path: "/models/tiny" model_platform: "tensorflow"
  {specific}
}} }}
"""


def configure(server, **labels):
    """Writes which versions are served, and their labels."""
    specific = "model_version_policy { specific { versions: 1 versions: 3 } }\n"
    for label, number in labels.items():
        specific += f'  version_labels {{ key: "{label}" value: {number} }}\n'
    put(server, POLICY.format(specific=specific))


def put(server, text):
    new = server.folder / "models.config.new"
    new.write_text(text)
    new.rename(server.folder / "models.config")


@pytest.fixture
def two_versions(server, exported):
    """Version 3 with other class names beside 1, and afterwards none of it."""
    before = (server.folder / "models.config").read_text()
    shutil.copytree(exported / "1", server.folder / ".copy")
    names = server.folder / ".copy" / "assets" / "class_names.txt"
    names.write_bytes(names.read_bytes().replace(b"cat", b"xat"))
    configure(server, stable=1)
    (server.folder / ".copy").rename(server.folder / "3")
    yield
    shutil.rmtree(server.folder / "3")
    put(server, before)
    wait_until(lambda: states(server) == {"1": "AVAILABLE"})


def states(server):
    entries = requests.get(server.model).json()["model_version_status"]
    return {entry["version"]: entry["state"] for entry in entries}


def wait_until(done):
    until = time.monotonic() + 60
    while not done():
        assert time.monotonic() < until
        time.sleep(0.02)


def ask(stub, label):
    """Returns the version that answers for a label; its class names must be that version's."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.version_label = "tiny", label
    image = np.zeros((1, 12, 16, 1), np.float32)
    request.inputs["images"].CopyFrom(tf.make_tensor_proto(image))
    answer = stub.Predict(request, timeout=30)
    number = answer.model_spec.version.value
    names = set(tf.make_ndarray(answer.outputs["top_k_names"]).ravel().tolist())
    assert NAMES[number] in names
    return number


@pytest.mark.long
def test_labels_switch_under_load_without_a_wrong_answer(server, channel, two_versions):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    allowed = {"stable": {1}, "canary": {3}}
    counts, wrong, stop = [], [], threading.Event()

    def load(label):
        count = 0
        while not stop.is_set():
            before = allowed[label]
            try:
                number = ask(stub, label)
            except (grpc.RpcError, AssertionError) as error:
                wrong.append(error)
                break
            if number not in before | allowed[label]:
                wrong.append((label, number, before))
            count += 1
        counts.append(count)

    wait_until(lambda: states(server) == {"1": "AVAILABLE", "3": "AVAILABLE"})
    configure(server, stable=1, canary=3)
    wait_until(lambda: is_known(stub, "canary"))
    callers = [threading.Thread(target=load, args=[label]) for label in 2 * list(allowed)]
    for caller in callers:
        caller.start()
    try:
        for stable, canary in ((3, 1), (1, 3)):
            allowed.update(stable={1, 3}, canary={1, 3})
            configure(server, stable=stable, canary=canary)
            wait_until(lambda wanted=stable: wrong or ask(stub, "stable") == wanted)
            # From here on one answer of the other version is a wrong one.
            allowed.update(stable={stable}, canary={canary})
            time.sleep(0.1)
        # A label of a version that there is not moves none.
        configure(server, stable=7, canary=1)
        time.sleep(0.5)
    finally:
        stop.set()
        for caller in callers:
            caller.join()
    assert not wrong
    assert min(counts) > 3
    assert "labels of tiny stay as they are: stable" in server.log.read_text()


def is_known(stub, label):
    try:
        return ask(stub, label)
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.INVALID_ARGUMENT:
            raise
        return False
