"""How fast a model answers: Keras, its SavedModel, and `robustcls serve` over gRPC and REST.

    python benchmarks/serving.py [--json] [--seconds 5] [--out benchmarks/results/serving.json]

The model is MobileNetV2 on float32 [N, 28, 28, 1] resized to 64 pixels, random weights. Server and
load generator share the machine. Images a second over gRPC stand beside those of plain
`model.predict` in batches of 32, measured before and after in the same run. About three minutes on
two cores.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
NAME, SHAPE, CLASSES, BATCH = "benchmark", (28, 28, 1), 10, 32
# Images a request, callers.
GRPC_LOADS = ((1, 1), (1, 8), (1, 32), (1, 64), (1, 128), (16, 4), (32, 4))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    parser.add_argument("--seconds", type=float, default=8, help="of each load")
    arguments = parser.parse_args()
    report = measure(arguments.seconds)
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2) if arguments.json else as_table(report))


def measure(seconds: float) -> dict[str, Any]:
    import robustcls as rc

    model = build(seed=0)
    images = rc.load("fashion_mnist_mini").test.float_images()[:512]
    with tempfile.TemporaryDirectory() as folder:
        names = [f"class {number}" for number in range(CLASSES)]
        version = rc.export(model, folder, class_names=names, name=NAME)
        one_call = compare_calls(model, version, images[:BATCH])
        before = predict_rate(model, images, seconds)
        loads = []
        with server(folder) as (process, rest, grpc_port):
            for rows, concurrency in GRPC_LOADS:
                with processor_time(process.pid) as spent:
                    load = asyncio.run(grpc_load(grpc_port, images, rows, concurrency, seconds))
                loads.append({"api": "gRPC", "batching": True, **load, **spent})
            for kind in ("JSON", "b64"):
                with processor_time(process.pid) as spent:
                    load = rest_load(rest, images, kind, 8, seconds)
                loads.append({"api": f"REST {kind}", "batching": True, **load, **spent})
        with server(folder, "--batching", "false") as (process, _, grpc_port):
            with processor_time(process.pid) as spent:
                load = asyncio.run(grpc_load(grpc_port, images, 1, 32, seconds))
            loads.append({"api": "gRPC", "batching": False, **load, **spent})
        after = predict_rate(model, images, seconds)
    predict = statistics.mean([before, after])
    for load in loads:
        load["over_predict"] = load["images_per_second"] / predict
    return {
        "command": f"python benchmarks/serving.py --seconds {seconds:g} "
        "--out benchmarks/results/serving.json",
        "date": date.today().isoformat(),
        "cores": os.cpu_count(),
        "model": "mobilenet_v2, [28, 28, 1] resized to 64, 10 classes",
        "predict_images_per_second": {"before": before, "after": after, "mean": predict},
        "saved_model": one_call,
        "loads": loads,
    }


def build(seed: int) -> Any:
    import robustcls as rc

    return rc.build_classifier(
        "mobilenet_v2", input_shape=SHAPE, num_classes=CLASSES, resize_to=64, seed=seed
    )


def predict_rate(model: Any, images: Any, seconds: float) -> float:
    """Images a second of `model.predict`, the median over calls."""
    model.predict(images, batch_size=BATCH, verbose=0)
    return len(images) / median_time(
        lambda: model.predict(images, batch_size=BATCH, verbose=0), seconds
    )


def compare_calls(model: Any, version: Path, images: Any) -> dict[str, float]:
    """Milliseconds for one batch in Keras' compiled step and in the SavedModel, taking turns."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(version))
    signature = loaded.signatures["serving_default"]
    batch = tf.constant(images)
    calls: dict[str, Callable[[], Any]] = {
        "keras_predict_on_batch": lambda: model.predict_on_batch(images),
        "keras_function": tf.function(lambda: model(batch, training=False)),
        "saved_model": lambda: signature(images=batch),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(7):
        for name, call in calls.items():
            times[name].append(median_time(call, 0.7))
    found = {f"{name}_ms": 1000 * statistics.median(values) for name, values in times.items()}
    best = min(found["keras_predict_on_batch_ms"], found["keras_function_ms"])
    return {**found, "over_keras": found["saved_model_ms"] / best}


def median_time(call: Callable[[], Any], seconds: float) -> float:
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


@contextlib.contextmanager
def server(folder: str | Path, *flags: str) -> Iterator[tuple[subprocess.Popen, int, int]]:
    """A `robustcls serve` process, its REST port and its gRPC port."""
    command = [Path(sys.executable).with_name("robustcls"), "serve", folder, *flags]
    command += ["--rest-port", "0", "--grpc-port", "0"]
    process = subprocess.Popen(
        [*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        rest = process.stdout.readline().rstrip().rstrip("/").rpartition(":")[2]
        grpc_port = process.stdout.readline().rstrip().rpartition(":")[2]
        yield process, int(rest), int(grpc_port)
    finally:
        process.terminate()
        process.wait(300)  # it ends what it is doing, which takes its time under load


@contextlib.contextmanager
def processor_time(server_process: int) -> Iterator[dict[str, float]]:
    """Cores that the server and the load generator in this process keep busy meanwhile."""
    spent: dict[str, float] = {}

    def used() -> list[float]:
        fields = Path(f"/proc/{server_process}/stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        return [ticks / os.sysconf("SC_CLK_TCK"), time.process_time(), time.perf_counter()]

    before = used()
    yield spent
    server_time, own_time, elapsed = (b - a for a, b in zip(before, used(), strict=True))
    spent["server_cores"] = server_time / elapsed
    spent["generator_cores"] = own_time / elapsed


async def grpc_load(
    port: int, images: Any, rows: int, concurrency: int, seconds: float
) -> dict[str, Any]:
    """Sends requests without a pause from so many callers."""
    import grpc
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    from robustcls.serving.tensors import fill_proto

    messages = []
    for start in range(0, len(images) - rows + 1, rows):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = NAME
        fill_proto(request.inputs["images"], images[start : start + rows])
        request.output_filter.append("probabilities")
        messages.append(request)
    times: list[float] = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        await stub.Predict(messages[0])

        async def caller(place: int, end: float) -> None:
            while time.perf_counter() < end:
                started = time.perf_counter()
                await stub.Predict(messages[place % len(messages)])
                times.append(time.perf_counter() - started)
                place += concurrency

        started = time.perf_counter()
        await asyncio.gather(*(caller(n, started + seconds) for n in range(concurrency)))
        elapsed = time.perf_counter() - started
    return summary(times, rows, concurrency, elapsed)


def rest_load(
    port: int, images: Any, kind: str, concurrency: int, seconds: float
) -> dict[str, Any]:
    """The same over HTTP connections that stay open, one image a request."""
    bodies = []
    for image in images[:128]:
        if kind == "JSON":
            body = {"instances": [image.tolist()]}
        else:
            encoded = base64.b64encode(png(image)).decode()
            body = {"signature_name": "serving_bytes", "instances": [{"b64": encoded}]}
        bodies.append(json.dumps(body))
    times: list[float] = []
    started = time.perf_counter()

    def caller(place: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        while time.perf_counter() < started + seconds:
            begun = time.perf_counter()
            connection.request("POST", f"/v1/models/{NAME}:predict", bodies[place % len(bodies)])
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200
            times.append(time.perf_counter() - begun)
            place += concurrency
        connection.close()

    threads = [threading.Thread(target=caller, args=(n,)) for n in range(concurrency)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return summary(times, 1, concurrency, time.perf_counter() - started)


def png(image: Any) -> bytes:
    import io

    import numpy as np
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.round(image[..., 0] * 255).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def summary(times: list[float], rows: int, concurrency: int, elapsed: float) -> dict[str, Any]:
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return {
        "images_per_request": rows,
        "concurrency": concurrency,
        "requests": len(times),
        "p50_ms": 1000 * cuts[49],
        "p99_ms": 1000 * cuts[98],
        "images_per_second": rows * len(times) / elapsed,
    }


def as_table(report: dict[str, Any]) -> str:
    lines = [
        "| call | images a request | callers | p50 ms | p99 ms | images/s | over predict "
        "| cores: server, generator |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    predict = report["predict_images_per_second"]["mean"]
    lines.append(f"| `model.predict`, batches of {BATCH} | | | | | {predict:.0f} | 1.00 | |")
    for load in report["loads"]:
        name = load["api"] + ("" if load["batching"] else ", no batching")
        lines.append(
            f"| {name} | {load['images_per_request']} | {load['concurrency']} "
            f"| {load['p50_ms']:.1f} | {load['p99_ms']:.1f} "
            f"| {load['images_per_second']:.0f} | {load['over_predict']:.2f} "
            f"| {load['server_cores']:.2f}, {load['generator_cores']:.2f} |"
        )
    one = report["saved_model"]
    lines.append(
        f"\nOne batch of {BATCH}: predict_on_batch {one['keras_predict_on_batch_ms']:.1f} ms, "
        f"tf.function {one['keras_function_ms']:.1f} ms, SavedModel {one['saved_model_ms']:.1f} ms "
        f"({one['over_keras']:.2f} of the faster)."
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
