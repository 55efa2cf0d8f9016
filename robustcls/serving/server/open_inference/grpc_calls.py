"""The protocol over gRPC: values in the messages, or as bytes beside them."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np

from robustcls.serving.errors import invalid
from robustcls.serving.server.engine import Engine
from robustcls.serving.server.grpc_calls import Call, add_service, seconds_left
from robustcls.serving.server.open_inference import tensors
from robustcls.serving.server.open_inference.inference import (
    SIGNATURE,
    Inference,
    is_model_ready,
    is_ready,
    model_metadata,
    server_metadata,
)
from robustcls.serving.server.open_inference.messages import PACKAGE, message

SERVICE = f"{PACKAGE}.GRPCInferenceService"

_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def add_open_inference(server: grpc.aio.Server, engine: Engine) -> None:
    """Adds the protocol's six calls to a server."""

    async def live(request: Any, context: Any) -> Any:
        return message("ServerLiveResponse")(live=True)

    async def ready(request: Any, context: Any) -> Any:
        return message("ServerReadyResponse")(ready=is_ready(engine))

    async def model_ready(request: Any, context: Any) -> Any:
        found = is_model_ready(engine, request.name, request.version)
        return message("ModelReadyResponse")(ready=found)

    async def about(request: Any, context: Any) -> Any:
        return message("ServerMetadataResponse")(**server_metadata())

    async def about_model(request: Any, context: Any) -> Any:
        found = model_metadata(engine, request.name, request.version)
        return message("ModelMetadataResponse")(**found)

    async def infer(request: Any, context: Any) -> Any:
        asked = _parse(request)
        outputs, number = await asked.answer(engine, "grpc", seconds_left(context))
        answer = message("ModelInferResponse")(
            model_name=asked.model, model_version=str(number), id=asked.id
        )
        for name, array in outputs.items():
            entry = answer.outputs.add(**tensors.described(name, array))
            # In the form of the question.
            if request.raw_input_contents:
                answer.raw_output_contents.append(tensors.to_bytes(array))
            else:
                field = getattr(entry.contents, _CONTENTS[entry.datatype])
                field.extend(array.ravel().tolist())
        return answer

    calls = {
        "ServerLive": (live, _no_model),
        "ServerReady": (ready, _no_model),
        "ModelReady": (model_ready, _name),
        "ServerMetadata": (about, _no_model),
        "ModelMetadata": (about_model, _name),
        "ModelInfer": (infer, _model_name),
    }
    handlers = {
        call: Call(message(f"{call}Request"), answer, model)
        for call, (answer, model) in calls.items()
    }
    add_service(server, engine, SERVICE, handlers)


def _parse(request: Any) -> Inference:
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise invalid(
            f"raw_input_contents must be one for each of {len(request.inputs)} inputs; "
            f"received {len(raw)}."
        )
    parameter = request.parameters[SIGNATURE]
    if parameter.WhichOneof("parameter_choice") not in (None, "string_param"):
        raise invalid(f"{SIGNATURE} must be a string_param; received another.")
    inputs: dict[str, np.ndarray] = {}
    for place, entry in enumerate(request.inputs):
        if entry.name in inputs:
            raise invalid(f"inputs must each have a name of their own; {entry.name} comes twice.")
        if raw and entry.HasField("contents"):
            raise invalid(f"{entry.name} must have either contents or raw_input_contents.")
        kind = tensors.to_kind(entry.name, entry.datatype)
        shape = tensors.check_shape(entry.name, list(entry.shape))
        if raw:
            inputs[entry.name] = tensors.from_bytes(entry.name, kind, shape, raw[place])
        elif entry.datatype not in _CONTENTS:
            raise invalid(f"{entry.name} of {entry.datatype} must come in raw_input_contents.")
        else:
            values = list(getattr(entry.contents, _CONTENTS[entry.datatype]))
            inputs[entry.name] = tensors.from_list(entry.name, kind, shape, values)
    return Inference(
        request.model_name,
        request.model_version,
        request.id,
        parameter.string_param,
        inputs,
        tuple(output.name for output in request.outputs),
    )


def _no_model(request: Any) -> str:
    return ""


def _name(request: Any) -> str:
    return str(request.name)


def _model_name(request: Any) -> str:
    return str(request.model_name)
