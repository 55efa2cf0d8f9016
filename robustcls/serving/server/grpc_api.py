"""TensorFlow Serving's gRPC services."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
)

from robustcls.serving.errors import invalid
from robustcls.serving.server.engine import Engine, Target, find_signature
from robustcls.serving.server.grpc_calls import Call, add_service, seconds_left
from robustcls.serving.tensors import fill_proto, to_array

SIGNATURE_DEF = "signature_def"
_WITH_CONTEXT = "example_list_with_context"
#: What probes may ask the health of.
SERVICES = ("tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")


def add_services(server: grpc.aio.Server, engine: Engine) -> None:
    """Adds Predict, Classify, GetModelMetadata and GetModelStatus to a server."""
    calls = _Calls(engine)
    predicting = {
        "Predict": Call(predict_pb2.PredictRequest, calls.predict, _model),
        "Classify": Call(classification_pb2.ClassificationRequest, calls.classify, _model),
        "GetModelMetadata": Call(
            get_model_metadata_pb2.GetModelMetadataRequest, calls.metadata, _model
        ),
    }
    status_request = get_model_status_pb2.GetModelStatusRequest
    models = {"GetModelStatus": Call(status_request, calls.status, _model)}
    for name, entries in zip(SERVICES, (predicting, models), strict=True):
        add_service(server, engine, name, entries)


class _Calls:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def predict(self, request: Any, context: Any) -> predict_pb2.PredictResponse:
        inputs = {
            name: to_array(name, proto, self._engine.limits.max_bytes)
            for name, proto in request.inputs.items()
        }
        spec = request.model_spec
        target = _target(spec)
        with self._engine.registry.lease(target.model, target.version, target.label) as served:
            signature = find_signature(served, spec.signature_name)
        signature.check_outputs("output_filter", request.output_filter)
        outputs, version = await self._engine.predict(
            target, spec.signature_name, inputs, api="grpc", timeout=seconds_left(context)
        )
        response = predict_pb2.PredictResponse()
        _answered_by(response.model_spec, spec, version)
        for name in request.output_filter or outputs:
            fill_proto(response.outputs[name], outputs[name])
        return response

    async def classify(self, request: Any, context: Any) -> Any:
        kind = request.input.WhichOneof("kind")
        given = getattr(request.input, kind or "example_list")
        if not given.examples:
            raise invalid("input must have examples; received none.")
        # Two serialized protos in a row are one with the fields of both.
        context_of_all = given.context.SerializeToString() if kind == _WITH_CONTEXT else b""
        examples = [context_of_all + example.SerializeToString() for example in given.examples]
        spec = request.model_spec
        outputs, version = await self._engine.predict(
            _target(spec),
            spec.signature_name,
            {"inputs": np.array(examples, object)},
            api="grpc",
            timeout=seconds_left(context),
            classify=True,
        )
        response = classification_pb2.ClassificationResponse()
        _answered_by(response.model_spec, spec, version)
        for labels, scores in zip(outputs["classes"], outputs["scores"], strict=True):
            row = response.result.classifications.add()
            for label, score in zip(labels.tolist(), scores.tolist(), strict=True):
                row.classes.add(label=label.decode(), score=score)
        return response

    async def metadata(self, request: Any, context: Any) -> Any:
        fields = set(request.metadata_field)
        if fields != {SIGNATURE_DEF}:
            raise invalid(f"metadata_field must be {SIGNATURE_DEF}; received {sorted(fields)}.")
        target = _target(request.model_spec)
        return metadata(self._engine, target)

    async def status(self, request: Any, context: Any) -> Any:
        return status(self._engine, _target(request.model_spec))


def metadata(engine: Engine, target: Target) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """Returns the signatures of a version."""
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    with engine.registry.lease(target.model, target.version, target.label) as served:
        response.model_spec.name = target.model
        response.model_spec.version.value = served.number
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in served.loaded.signatures.items():
            signatures.signature_def[name].CopyFrom(signature.definition)
    response.metadata[SIGNATURE_DEF].Pack(signatures)
    return response


def status(engine: Engine, target: Target) -> get_model_status_pb2.GetModelStatusResponse:
    """Returns the states of a model's versions; a label asks for all, as in TensorFlow Serving."""
    response = get_model_status_pb2.GetModelStatusResponse()
    for number, state, message in engine.registry.statuses(target.model, target.version):
        entry = response.model_version_status.add(version=number, state=state)
        entry.status.error_code = grpc.StatusCode.UNKNOWN.value[0] if message else 0
        entry.status.error_message = message
    return response


def _target(spec: model_pb2.ModelSpec) -> Target:
    choice = spec.WhichOneof("version_choice")
    version = spec.version.value if choice == "version" else None
    return Target(spec.name, version, spec.version_label if choice == "version_label" else None)


def _answered_by(spec: model_pb2.ModelSpec, asked: model_pb2.ModelSpec, version: int) -> None:
    """Fills in what answered: the default signature where none was asked for."""
    spec.name = asked.name
    spec.signature_name = asked.signature_name or "serving_default"
    spec.version.value = version


def _model(request: Any) -> str:
    return str(request.model_spec.name)
