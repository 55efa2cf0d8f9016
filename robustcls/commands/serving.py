"""`robustcls export`, `check-export` and `serve`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from robustcls._command_line import Runners, add_function_commands
from robustcls._settings import Port, PositiveFloat, PositiveInt, Range, checked
from robustcls._validation import InputError
from robustcls.serving.optional_packages import require_serving


def add_commands(commands: Any) -> Runners:
    """Adds the commands; returns what runs them."""
    functions: dict[str, Callable[..., None]] = {
        "export": export_model,
        "check-export": check_exported,
        "serve": serve_models,
    }
    return add_function_commands(commands, functions)


def export_model(
    run: str,
    out: str | None = None,
    model: str | None = None,
    name: str | None = None,
    version: int | None = None,
    format: str = "saved_model",
    data: str | None = None,
    class_names: tuple[str, ...] = (),
    input_range: tuple[float, float] | None = None,
    output: str | None = None,
    skip_bad_images: bool = False,
) -> None:
    """Write a model as a SavedModel for TensorFlow Serving, or for another runtime.

    Args:
        run: a run, or a .keras file.
        out: the model's folder, which gets the next version; RUN/export, or NAME-export beside a
            file, when left out.
        model: base or adversarial; adversarial where it was trained when left out.
        name: the model's name in requests; the run's when left out.
        version: the number of the version; the next when left out.
        format: saved_model, bfloat16 (a SavedModel with weights in bfloat16), int8 (TFLite), onnx
            or openvino; all but the first are measured beside float32, also under noise and attack,
            and go to RUN/export-FORMAT.
        data: images for a model file, as for training, of which class names and samples are taken.
        class_names: of a model file where there are no data.
        input_range: what a model file wants 0 and 1 to be, for example 0 255; part of what is
            served.
        output: which output of a model file to serve, by name or number.
        skip_bad_images: leave unreadable images of --data out.
    """
    require_serving()
    from robustcls.serving.exports.exporting import export_model_file, export_run

    settings: dict[str, Any] = {"name": name, "version": version, "format": format}
    own: dict[str, Any] = {
        "data": data,
        "class_names": class_names,
        "input_range": input_range,
        "output": output,
        "skip_bad_images": skip_bad_images,
    }
    if Path(run).is_file():
        if model is not None:
            raise InputError(f"model is for runs; {run} is one model. Received {model!r}.")
        print(export_model_file(run, out, **own, **settings))
        return
    for flag, value in own.items():
        if value:
            raise InputError(f"{flag} is for a .keras file; {run} is none. Received {value!r}.")
    print(export_run(run, out, model=model, **settings))


def check_exported(folder: str) -> None:
    """Compare an export with its model, in a process that has only TensorFlow.

    Exits with status 1 when a check fails.

    Args:
        folder: an export, whose newest version is taken, or a version.
    """
    require_serving()
    from robustcls.serving.checking.parity import check_export, print_checks

    checks = check_export(folder)
    print_checks(checks)
    if not all(check["passed"] for check in checks):
        sys.exit(1)


@checked
def serve_models(
    folder: str,
    host: str = "127.0.0.1",
    rest_port: Port = 8501,
    grpc_port: Port = 8500,
    batching: bool = True,
    poll_seconds: PositiveFloat = 1.0,
    timeout: PositiveFloat = 30.0,
    max_images: PositiveInt = 1024,
    max_megabytes: Annotated[int, Range(minimum=1, maximum=1024)] = 64,
) -> None:
    """Answer TensorFlow Serving's REST and gRPC calls on this machine, for development.

    Args:
        folder: an export, or a folder of exports.
        host: address to listen on; others than 127.0.0.1 can be reached from outside (str, default
            "127.0.0.1").
        rest_port: port of REST and of the page to try the model on; 0 chooses a free one (int in
            [0, 65535], default 8501).
        grpc_port: port of gRPC; 0 chooses a free one (int in [0, 65535], default 8500).
        batching: compute requests that arrive together in one batch (bool, default True).
        poll_seconds: how often to look for new versions (float > 0, default 1.0).
        timeout: seconds after which a request is given up (float > 0, default 30.0).
        max_images: most images in a request (int >= 1, default 1024).
        max_megabytes: largest request (int in [1, 1024], default 64).
    """
    require_serving()
    from robustcls.serving.server.engine import Limits
    from robustcls.serving.server.logs import log_to_stderr
    from robustcls.serving.server.run import serve

    log_to_stderr()
    serve(
        folder,
        host=host,
        rest_port=rest_port,
        grpc_port=grpc_port,
        batching=batching,
        poll_seconds=poll_seconds,
        limits=Limits(timeout=timeout, max_rows=max_images, max_bytes=max_megabytes << 20),
    )
