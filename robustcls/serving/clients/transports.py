"""How `Client` reaches a server: gRPC or REST, one request at a time."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
import requests
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from robustcls.serving.errors import ServingError, from_http
from robustcls.serving.tensors import fill_proto

_METADATA = "signature_def"


class GrpcTransport:
    """Asks through gRPC."""

    def __init__(self, address: str, model: str, version: int | None) -> None:
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._channel = grpc.insecure_channel(address, options=options)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._spec = model_pb2.ModelSpec(name=model)
        if version is not None:
            self._spec.version.value = version

    def call(
        self, signature: str, inputs: Mapping[str, np.ndarray], timeout: float
    ) -> dict[str, np.ndarray]:
        request = predict_pb2.PredictRequest(model_spec=self._spec)
        request.model_spec.signature_name = signature
        for name, array in inputs.items():
            fill_proto(request.inputs[name], array)
        response = _asked(self._predictions.Predict, request, timeout)
        return {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}

    def status(self, timeout: float) -> dict[int, str]:
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=self._spec)
        response = _asked(self._models.GetModelStatus, request, timeout)
        return _states(response)

    def close(self) -> None:
        self._channel.close()


class RestTransport:
    """Asks through REST, in JSON."""

    def __init__(self, address: str, model: str, version: int | None) -> None:
        self._session = requests.Session()
        part = "" if version is None else f"/versions/{version}"
        self._url = f"{address}/v1/models/{model}{part}"
        self._signatures: Mapping[str, Any] = {}

    def call(
        self, signature: str, inputs: Mapping[str, np.ndarray], timeout: float
    ) -> dict[str, np.ndarray]:
        if signature not in self._signatures:
            self._signatures = self._read_signatures(timeout)
        # Another name gets its reason from the server.
        known = self._signatures.get(signature, meta_graph_pb2.SignatureDef())
        rows = len(next(iter(inputs.values()), ()))
        # JSON must have every input; gRPC has the server fill in defaults.
        defaults = {
            name: np.repeat(tf.make_ndarray(proto), rows, axis=0)
            for name, proto in known.defaults.items()
        }
        columns = {name: _json_value(array) for name, array in {**defaults, **inputs}.items()}
        body = json.dumps({"signature_name": signature, "inputs": columns})
        outputs = self._ask("POST", ":predict", timeout, data=body)["outputs"]
        kinds = {
            name: tf.as_dtype(info.dtype).as_numpy_dtype for name, info in known.outputs.items()
        }
        if len(kinds) == 1:
            outputs = {next(iter(kinds)): outputs}
        return {name: _array(name, value, kinds[name]) for name, value in outputs.items()}

    def status(self, timeout: float) -> dict[int, str]:
        response = get_model_status_pb2.GetModelStatusResponse()
        return _states(json_format.ParseDict(self._ask("GET", "", timeout), response))

    def close(self) -> None:
        self._session.close()

    def _read_signatures(self, timeout: float) -> Mapping[str, Any]:
        """JSON says nothing of types, so they come from the metadata."""
        answer = self._ask("GET", "/metadata", timeout)["metadata"][_METADATA]
        found = json_format.ParseDict(
            {"signature_def": answer["signature_def"]}, get_model_metadata_pb2.SignatureDefMap()
        )
        return dict(found.signature_def)

    def _ask(self, method: str, path: str, timeout: float, **body: Any) -> Any:
        try:
            response = self._session.request(method, self._url + path, timeout=timeout, **body)
        except requests.Timeout:
            raise ServingError(
                grpc.StatusCode.DEADLINE_EXCEEDED, f"no answer within {timeout:.3g} s."
            ) from None
        except requests.RequestException as error:
            raise ServingError(grpc.StatusCode.UNAVAILABLE, str(error)) from None
        try:
            answer = response.json()
        except ValueError:
            answer = {"error": f"status {response.status_code} and no JSON from {self._url}."}
        if not response.ok:
            raise from_http(response.status_code, str(answer.get("error", answer)))
        return answer


def _asked(method: Any, request: Any, timeout: float) -> Any:
    try:
        return method(request, timeout=timeout)
    except grpc.RpcError as error:
        raise ServingError(error.code(), error.details()) from None


def _states(response: get_model_status_pb2.GetModelStatusResponse) -> dict[int, str]:
    states = get_model_status_pb2.ModelVersionStatus.State
    return {entry.version: states.Name(entry.state) for entry in response.model_version_status}


def _json_value(array: np.ndarray) -> Any:
    if array.dtype != object:
        return array.tolist()
    return [
        {"b64": base64.b64encode(value if isinstance(value, bytes) else value.encode()).decode()}
        for value in array.tolist()
    ]


def _array(name: str, value: Any, kind: Any) -> np.ndarray:
    if kind is not object:
        return np.asarray(value, kind)
    array = np.asarray(value, object)
    flat = [one["b64"] if isinstance(one, dict) else one for one in array.ravel()]
    decode = base64.b64decode if name.endswith("_bytes") else str.encode
    array.ravel()[:] = [decode(one) for one in flat]
    return array
