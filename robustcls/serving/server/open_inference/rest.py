"""The protocol over HTTP: JSON, with tensors in it or as bytes behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from robustcls.serving.errors import invalid
from robustcls.serving.server.answers import in_turn, json_answer, or_refused
from robustcls.serving.server.bodies import read_body
from robustcls.serving.server.engine import Engine
from robustcls.serving.server.open_inference import tensors
from robustcls.serving.server.open_inference.inference import (
    SIGNATURE,
    Inference,
    is_model_ready,
    is_ready,
    model_metadata,
    server_metadata,
)
from robustcls.serving.server.signature import Arrays

#: How long the JSON is that bytes follow: a header of requests and of answers.
HEADER_LENGTH = "Inference-Header-Content-Length"
# Triton's extensions that are not served.
_UNSERVED = ("shared_memory_region", "classification")


def routes(engine: Engine) -> list[Route]:
    """Returns the protocol's addresses."""

    async def live(request: Request) -> Response:
        return json_answer({"live": True})

    async def ready(request: Request) -> Response:
        found = is_ready(engine)
        return json_answer({"ready": found}, 200 if found else 400)

    async def about(request: Request) -> Response:
        return json_answer(server_metadata())

    async def about_model(request: Request) -> Response:
        async def answer(model: str, version: str) -> Response:
            return json_answer(model_metadata(engine, model, version))

        return await _of_model(request, answer)

    async def model_ready(request: Request) -> Response:
        async def answer(model: str, version: str) -> Response:
            found = is_model_ready(engine, model, version)
            return json_answer({"name": model, "ready": found}, 200 if found else 400)

        return await _of_model(request, answer)

    async def infer(request: Request) -> Response:
        async def answer(model: str, version: str) -> Response:
            with engine.holding() as take:
                body = await read_body(request, engine.limits, take)
                return await _infer(engine, model, version, body, request)

        return await _of_model(request, answer)

    async def _of_model(request: Request, answer: Any) -> Response:
        model, version = request.path_params["model"], request.path_params.get("version", "")
        return await or_refused(engine, model, answer(model, version))

    found = [
        Route("/v2", about),
        Route("/v2/health/live", live),
        Route("/v2/health/ready", ready),
    ]
    for base in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        found += [
            Route(base, about_model),
            Route(f"{base}/ready", model_ready),
            Route(f"{base}/infer", infer, methods=["POST"]),
        ]
    return found


async def _infer(
    engine: Engine, model: str, version: str, body: bytes, request: Request
) -> Response:
    length = request.headers.get(HEADER_LENGTH.lower())
    asked, is_binary = await in_turn(lambda: _parse(model, version, body, length), len(body))
    outputs, number = await asked.answer(engine, "rest")
    said = {"model_name": model, "model_version": str(number)}
    if asked.id:
        said["id"] = asked.id
    size = sum(array.size for array in outputs.values())
    return await in_turn(lambda: _formatted(said, outputs, is_binary), size)


def _parse(
    model: str, version: str, body: bytes, length: str | None
) -> tuple[Inference, Mapping[str, bool]]:
    """Returns a request, and of each output whether it is wanted as bytes ("" is for others)."""
    size = len(body) if length is None else int(length) if length.isdecimal() else -1
    if not 0 <= size <= len(body):
        raise invalid(f"{HEADER_LENGTH} must be the bytes of JSON, of {len(body)}; it is not.")
    content, rest = body[:size], body[size:]
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        reason = "too deep" if isinstance(error, RecursionError) else str(error)[:200]
        raise invalid(f"body must be JSON; {reason}.") from None
    value = _object("body", value)
    parameters = _object("parameters", value.get("parameters", {}))
    flags = b"true" in content or b"false" in content
    inputs: dict[str, np.ndarray] = {}
    for entry in _objects("inputs", value.get("inputs")):
        name = _text("name", entry)
        if name in inputs:
            raise invalid(f"inputs must each have a name of their own; {name} comes twice.")
        inputs[name], rest = _input(name, entry, rest, flags)
    if rest:
        raise invalid(f"inputs must use all bytes behind the JSON; {len(rest)} are left.")
    wanted = {"": _flag("binary_data_output", parameters, False)}
    names = []
    for entry in _objects("outputs", value.get("outputs", [])):
        name = _text("name", entry)
        own = _object("parameters", entry.get("parameters", {}))
        _check_served(name, own)
        wanted[name] = _flag("binary_data", own, wanted[""])
        names.append(name)
    request_id = _text("id", {"id": value.get("id", "")})
    signature = _text(SIGNATURE, {SIGNATURE: parameters.get(SIGNATURE, "")})
    return Inference(model, version, request_id, signature, inputs, tuple(names)), wanted


def _input(
    name: str, entry: Mapping[str, Any], rest: bytes, flags: bool
) -> tuple[np.ndarray, bytes]:
    """Returns an input's array, and the bytes that it leaves."""
    kind = tensors.to_kind(name, entry.get("datatype"))
    shape = tensors.check_shape(name, entry.get("shape"))
    parameters = _object("parameters", entry.get("parameters", {}))
    _check_served(name, parameters)
    size = parameters.get("binary_data_size")
    if ("data" in entry) == (size is not None):
        raise invalid(f"{name} must have either data or binary_data_size.")
    if size is None:
        return tensors.from_list(name, kind, shape, entry["data"], flags=flags), rest
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(rest):
        raise invalid(
            f"{name}'s binary_data_size must be at most the {len(rest)} bytes that follow; "
            f"received {str(size)[:100]}."
        )
    return tensors.from_bytes(name, kind, shape, rest[:size]), rest[size:]


def _formatted(said: dict[str, Any], outputs: Arrays, is_binary: Mapping[str, bool]) -> Response:
    entries, parts = [], []
    for name, array in outputs.items():
        entry = tensors.described(name, array)
        if is_binary.get(name, is_binary[""]):
            parts.append(tensors.to_bytes(array))
            entry["parameters"] = {"binary_data_size": len(parts[-1])}
        elif array.dtype == object:
            entry["data"] = [one.decode("utf-8", "replace") for one in array.ravel().tolist()]
        else:
            entry["data"] = array.ravel().tolist()
        entries.append(entry)
    text = json.dumps({**said, "outputs": entries}).encode()
    if not parts:
        return json_answer(text)
    headers = {HEADER_LENGTH: str(len(text))}
    body = b"".join([text, *parts])
    return Response(body, headers=headers, media_type="application/octet-stream")


def _check_served(name: str, parameters: Mapping[str, Any]) -> None:
    for key in _UNSERVED:
        if key in parameters:
            raise invalid(f"{name} must have no parameter {key}, which is not served.")


def _object(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise invalid(f"{name} must be a JSON object; received {type(value).__name__}.")
    return value


def _objects(name: str, value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise invalid(f"{name} must be a list of objects; received {type(value).__name__}.")
    return [_object(name, one) for one in value]


def _text(key: str, entry: Mapping[str, Any]) -> str:
    value = entry.get(key)
    if not isinstance(value, str):
        raise invalid(f"{key} must be a string; received {type(value).__name__}.")
    return value


def _flag(key: str, parameters: Mapping[str, Any], default: bool) -> bool:
    value = parameters.get(key, default)
    if not isinstance(value, bool):
        raise invalid(f"{key} must be true or false; received {str(value)[:100]}.")
    return value
