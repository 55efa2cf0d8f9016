"""TensorFlow Serving's REST interface, the open protocol beside it, and the page at `/`."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from google.protobuf import json_format as proto_json
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from robustcls.serving.errors import invalid
from robustcls.serving.exports.configuration import METRICS_PATH
from robustcls.serving.server import json_format
from robustcls.serving.server.answers import in_turn, json_answer, or_refused, refused
from robustcls.serving.server.bodies import read_body
from robustcls.serving.server.engine import Engine, Target, find_signature
from robustcls.serving.server.grpc_api import metadata, status
from robustcls.serving.server.logs import LOG
from robustcls.serving.server.open_inference import rest as open_inference
from robustcls.serving.server.openapi import describe

# As `http_rest_api_util.cc` of TensorFlow Serving has them: fixed words in any case, and all that
# does not fit, another method too, is a malformed request.
_VERSION = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_PATHS = {
    "GET": re.compile(rf"models(?:/(?P<model>[^/:]+))?{_VERSION}(?:/(?P<ask>metadata))?", re.I),
    "POST": re.compile(
        rf"models/(?P<model>[^/:]+){_VERSION}:(?P<ask>classify|regress|predict)", re.I
    ),
}
_PATHS["HEAD"] = _PATHS["GET"]
_LARGEST_VERSION = 2**63 - 1
# Which of them an address takes is said by the address.
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
_LOOPBACK = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?", re.IGNORECASE)
#: Of every answer: what it says it is, and in no frame of another page.
_HEADERS = {"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY"}
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; "
    "style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline'",
    "Cache-Control": "no-store",
}


def make_app(engine: Engine, *, loopback: bool = False) -> Starlette:
    """Returns the ASGI application.

    Args:
        engine: answers.
        loopback: the server listens on this machine alone, so its pages have no other name (bool,
            default False).
    """
    api = _RestApi(engine)
    page = importlib.resources.files("robustcls.serving.server").joinpath("page.html").read_bytes()

    async def show_page(request: Request) -> Response:
        return Response(page, media_type="text/html", headers=_PAGE_HEADERS)

    async def show_metrics(request: Request) -> Response:
        return Response(engine.metrics.text(), media_type="text/plain; version=0.0.4")

    async def show_models(request: Request) -> Response:
        return json_answer({"models": sorted(engine.registry.models)})

    async def show_openapi(request: Request) -> Response:
        return json_answer(describe(engine))

    async def http_error(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        message = f"{error.detail}: {request.method} {request.url.path[:200]}"
        return refused(engine, "", error.status_code, message, dict(error.headers or {}))

    return Starlette(
        routes=[
            Route("/", show_page),
            Route("/models.json", show_models),
            Route("/openapi.json", show_openapi),
            Route(METRICS_PATH, show_metrics),
            Route("/v1/{path:path}", api.answer, methods=_METHODS),
            Route("/V1/{path:path}", api.answer, methods=_METHODS),
            *open_inference.routes(engine),
        ],
        exception_handlers={HTTPException: http_error, Exception: _internal_error},
        middleware=[
            Middleware(
                _WithHeaders,
                own_pages=frozenset(["/", "/models.json", "/openapi.json"] if loopback else []),
                refuse=partial(refused, engine),
            )
        ],
    )


class _RestApi:
    """The addresses below /v1/."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def answer(self, request: Request) -> Response:
        path = request.path_params["path"].partition("/")[2]
        return await or_refused(self._engine, path, self._answer(request))

    async def _answer(self, request: Request) -> Response:
        pattern = _PATHS.get(request.method)
        match = pattern and pattern.fullmatch(request.path_params["path"])
        ask = match and match["ask"]
        if request.method != "POST" and ask != "metadata":
            ask = "status"
        if not match or not hasattr(self, f"_{ask}"):
            raise invalid(f"malformed request: {request.method} {request.url.path[:200]}")
        version = None if match["version"] is None else int(match["version"])
        if version is not None and version > _LARGEST_VERSION:
            raise invalid("version must be a number of 64 bits.")
        target = Target(match["model"] or "", version, match["label"])
        with self._engine.holding() as take:
            body = await read_body(request, self._engine.limits, take)
            return await getattr(self, f"_{ask}")(target, body)

    async def _status(self, target: Target, body: bytes) -> Response:
        return json_answer(_proto(status(self._engine, target)))

    async def _metadata(self, target: Target, body: bytes) -> Response:
        return json_answer(_proto(metadata(self._engine, target)))

    async def _predict(self, target: Target, body: bytes) -> Response:
        parsed = await in_turn(
            lambda: json_format.parse_body(body, "instances", "inputs"), len(body)
        )
        name = json_format.signature_name(parsed)
        with self._engine.registry.lease(target.model, target.version, target.label) as served:
            signature = find_signature(served, name)
        inputs, by_row = await in_turn(
            lambda: json_format.parse_inputs(
                parsed, signature, flags=b"true" in body or b"false" in body
            ),
            len(body),
        )
        outputs, _ = await self._engine.predict(target, name, inputs, api="rest")
        size = sum(array.size for array in outputs.values())
        return json_answer(await in_turn(lambda: json_format.format_outputs(outputs, by_row), size))

    async def _classify(self, target: Target, body: bytes) -> Response:
        def parse() -> tuple[str, Any]:
            parsed = json_format.parse_body(body, "examples", "context")
            return json_format.signature_name(parsed), json_format.parse_examples(parsed)

        name, inputs = await in_turn(parse, len(body))
        outputs, _ = await self._engine.predict(target, name, inputs, api="rest", classify=True)
        return json_answer(json_format.format_classes(outputs))

    async def _regress(self, target: Target, body: bytes) -> Response:
        raise invalid(f"{target.model} has no signature for the Regress call.")


class _WithHeaders:
    """Adds the headers that every answer has, and refuses pages to names of other hosts.

    A page of another site whose name was made to lead here ("DNS rebinding") asks with that name.

    Args:
        app: answers.
        own_pages: addresses that loopback names alone may ask for; none where the server listens
            beyond this machine.
        refuse: makes an error's answer of a path, a status and a message.
    """

    def __init__(
        self, app: ASGIApp, own_pages: frozenset[str], refuse: Callable[[str, int, str], Response]
    ) -> None:
        self._app = app
        self._refuse = refuse
        self._own_pages = own_pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if scope["type"] == "http" and scope["path"] in self._own_pages:
            host = Headers(scope=scope).get("host", "")
            if not _LOOPBACK.fullmatch(host):
                message = f"host must be localhost; received {host[:100]!r}."
                refused = self._refuse("", 403, message)
                await refused(scope, receive, send_with_headers)
                return
        await self._app(scope, receive, send_with_headers)


def _proto(message: Any) -> str:
    return proto_json.MessageToJson(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


async def _internal_error(request: Request, error: Exception) -> Response:
    LOG.error("a request failed", exc_info=error)
    return json_answer({"error": "internal error; see the server's log."}, 500)
