"""The REST interface as an OpenAPI description, for tools that write clients or tests."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from robustcls.serving.exports.endpoints import EXAMPLE_FEATURE
from robustcls.serving.server.engine import Engine
from robustcls.serving.server.signature import Signature

_B64 = {
    "type": "object",
    "properties": {"b64": {"type": "string", "contentEncoding": "base64"}},
    "required": ["b64"],
    "additionalProperties": False,
}
_ERROR = {
    "type": "object",
    "properties": {"error": {"type": "string"}},
    "required": ["error"],
}
_REASONS = {
    "400": "wrong input",
    "404": "no such model or version",
    "413": "too large",
    "503": "too busy",
    "504": "out of time",
}


def describe(engine: Engine) -> dict[str, Any]:
    """Returns OpenAPI 3.1 of the models that are being served."""
    paths: dict[str, Any] = {}
    for name, model in engine.registry.models.items():
        base = f"/v1/models/{name}"
        paths[base] = {"get": _get("states of the versions")}
        paths[f"{base}/metadata"] = {"get": _get("signatures")}
        if not model.versions:
            continue
        signatures = model.versions[max(model.versions)].loaded.signatures.values()
        predicting = [_predict_body(one) for one in signatures if not one.is_classify]
        paths[f"{base}:predict"] = {"post": _post("outputs of a signature", {"anyOf": predicting})}
        if any(one.is_classify for one in signatures):
            paths[f"{base}:classify"] = {"post": _post("labels with scores", _CLASSIFY_BODY)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "TensorFlow Serving's REST interface", "version": "1"},
        "paths": paths,
    }


_CLASSIFY_BODY = {
    "type": "object",
    "properties": {
        "signature_name": {"const": "classify"},
        "examples": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {EXAMPLE_FEATURE: _B64},
                "required": [EXAMPLE_FEATURE],
                "additionalProperties": False,
            },
        },
    },
    "required": ["signature_name", "examples"],
}


def _predict_body(signature: Signature) -> dict[str, Any]:
    row = {
        "type": "object",
        "properties": {
            name: _array(name, spec, spec.shape.as_list()[1:])
            for name, spec in signature.inputs.items()
        },
        "required": sorted(signature.inputs),
        "additionalProperties": False,
    }
    default = [] if signature.name == "serving_default" else ["signature_name"]
    return {
        "type": "object",
        "properties": {
            "signature_name": {"const": signature.name},
            "instances": {"type": "array", "items": row, "minItems": 1},
        },
        "required": [*default, "instances"],
        "additionalProperties": False,
    }


def _array(name: str, spec: tf.TensorSpec, shape: list[int | None]) -> dict[str, Any]:
    if shape:
        count = {} if shape[0] is None else {"minItems": shape[0], "maxItems": shape[0]}
        return {"type": "array", "items": _array(name, spec, shape[1:]), **count}
    if spec.dtype == tf.string:
        return _B64
    if spec.dtype.is_integer:
        return {"type": "integer"}
    return {"type": "number", **({"minimum": 0, "maximum": 1} if name == "images" else {})}


def _get(what: str) -> dict[str, Any]:
    return {"summary": what, "responses": _responses()}


def _post(what: str, schema: dict[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": schema}}
    return {
        "summary": what,
        "requestBody": {"required": True, "content": content},
        "responses": _responses(),
    }


def _responses() -> dict[str, Any]:
    answers: dict[str, Any] = {
        "200": {
            "description": "the answer",
            "content": {"application/json": {"schema": {"type": "object"}}},
        }
    }
    for code, reason in _REASONS.items():
        content = {"application/json": {"schema": _ERROR}}
        answers[code] = {"description": reason, "content": content}
    return answers
