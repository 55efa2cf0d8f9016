"""Whether `robustcls serve` refuses whatever is wrong, and still answers everyone else rightly.

    python benchmarks/serving_fuzz.py EXPORT [--out benchmarks/results/serving_fuzz.json]

Wrong and damaged requests go out between good ones, whose answers are compared with those that the
same images got alone. Ends with status 1 if a wrong request was not INVALID_ARGUMENT with a
message, a good one was, or an answer was another's. Where `schemathesis` is installed
(`pip install schemathesis`) it also tests the REST interface by its OpenAPI description.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import zlib
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import grpc
import numpy as np
import requests
import tensorflow as tf
from PIL import Image
from serving import server
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

ROUNDS, AT_ONCE = 900, 100
PNG = b"\x89PNG\r\n\x1a\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("export", type=Path, help="a model's folder")
    parser.add_argument("--out", type=Path, help="write the JSON to this file")
    arguments = parser.parse_args()
    with server(arguments.export) as (process, rest, port):
        address = f"http://127.0.0.1:{rest}"
        name = requests.get(f"{address}/models.json", timeout=60).json()["models"][0]
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            outcomes, problems = fuzz(channel, name)
        schema = schemathesis(address)
        alive = process.poll() is None
    report = {
        "command": "python benchmarks/serving_fuzz.py EXPORT "
        "--out benchmarks/results/serving_fuzz.json",
        "date": date.today().isoformat(),
        "outcomes": {" ".join(key): count for key, count in sorted(outcomes.items())},
        "problems": problems,
        "schemathesis": schema,
        "server_alive": alive,
    }
    text = json.dumps(report, indent=2)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")
    print(text)
    sys.exit(bool(problems) or not alive or schema.startswith("status 1"))


def fuzz(channel: grpc.Channel, name: str) -> tuple[Counter, list[str]]:
    """Returns how often each kind of request ended how, and what should not have happened."""
    predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict

    def message(signature: str, **inputs: Any) -> predict_pb2.PredictRequest:
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = name, signature
        for key, value in inputs.items():
            is_proto = isinstance(value, type(tf.make_tensor_proto(0)))
            request.inputs[key].CopyFrom(value if is_proto else tf.make_tensor_proto(value))
        return request

    draws = np.random.default_rng(0)
    pixels = draws.integers(0, 256, (32, 28, 28), dtype=np.uint8)
    files = [encoded(Image.fromarray(one), "PNG") for one in pixels]
    photo = encoded(Image.fromarray(pixels.reshape(128, 196)), "JPEG")
    good = [message("serving_bytes", image_bytes=[file]) for file in files]
    alone = [answer_of(predict(request)) for request in good]
    shape = list(
        tf.make_ndarray(predict(message("decode", image_bytes=files[:1])).outputs["images"]).shape
    )
    outcomes: Counter = Counter()
    problems: list[str] = []
    waiting: list[tuple[str, int, Any]] = []
    for number in range(ROUNDS):
        place = int(draws.integers(len(good)))
        kind, signature, inputs = wrong(draws, number, shape)
        waiting.append(("good", place, predict.future(good[place])))
        waiting.append((kind, number, predict.future(message(signature, **inputs))))
        # It may still be an image.
        flipped = flip(draws, files[place] if number % 2 else photo)
        damaged = message("serving_bytes", image_bytes=[flipped])
        waiting.append(("bits flipped", number, predict.future(damaged)))
        if len(waiting) < AT_ONCE and number < ROUNDS - 1:
            continue
        for kind, place, answer in waiting:
            error = answer.exception()
            code = error.code().name if error else "OK"
            outcomes[kind, code] += 1
            if kind == "good":
                right = not error and np.allclose(
                    answer_of(answer.result()), alone[place], atol=1e-4
                )
                problems += [] if right else [f"good: {code} or another's answer"]
            elif not (kind == "bits flipped" and code == "OK"):
                refused = code == "INVALID_ARGUMENT" and error.details()
                problems += [] if refused else [f"{kind}: {code}"]
        waiting = []
    return outcomes, problems


def wrong(draws: np.random.Generator, number: int, shape: list[int]) -> tuple[str, str, dict]:
    """Returns the kind, signature and inputs of a request that must be refused."""
    images = np.zeros(shape, np.float32)
    side = int(draws.integers(7000, 2**31 - 1))
    lying = tf.make_tensor_proto(images)
    lying.tensor_shape.dim[number % 4].size = int(draws.choice([-5, 0, 2**40, 2**62]))
    other_shape = draws.integers(0, 12, draws.integers(0, 6)).tolist()
    kind = draws.choice(["float64", "int32", "float16", "uint8", "complex64", "bool"])
    cases = [
        ("random bytes", "serving_bytes", {"image_bytes": [draws.bytes(number)]}),
        ("damaged PNG", "serving_bytes", {"image_bytes": [PNG + draws.bytes(200)]}),
        ("damaged JPEG", "serving_bytes", {"image_bytes": [b"\xff\xd8\xff" + draws.bytes(300)]}),
        ("decompression bomb", "serving_bytes", {"image_bytes": [bomb(side)]}),
        ("NaN", "", {"images": images + np.nan}),
        ("out of range", "", {"images": images + 2 + number}),
        ("another shape", "", {"images": np.zeros([13, *other_shape], np.float32)}),
        ("another dtype", "", {"images": images.astype(kind)}),
        ("another name", "", {f"images{number}": images}),
        ("no such signature", f"signature{number}", {"images": images}),
        ("a shape that lies", "", {"images": lying}),
    ]
    return cases[number % len(cases)]


def bomb(side: int) -> bytes:
    """A PNG of side x side pixels in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        PNG
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(9999)))
        + chunk(b"IEND", b"")
    )


def flip(draws: np.random.Generator, content: bytes) -> bytes:
    changed = bytearray(content)
    for place in draws.integers(0, len(content), 8):
        changed[place] = int(draws.integers(256))
    return bytes(changed)


def answer_of(response: predict_pb2.PredictResponse) -> np.ndarray:
    name = "logits" if "logits" in response.outputs else "score"
    return tf.make_ndarray(response.outputs[name])[0]


def encoded(picture: Image.Image, kind: str) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind)
    return stream.getvalue()


def schemathesis(address: str) -> str:
    command = shutil.which(
        "schemathesis", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    )
    if command is None:
        return "not installed"
    # A schema cannot say that bytes are an image, so what fits it may still be refused.
    flags = ["--max-examples", "25", "--seed", "1"]
    flags += ["--exclude-checks", "positive_data_acceptance"]
    done = subprocess.run(
        [command, "run", f"{address}/openapi.json", *flags], capture_output=True, text=True
    )
    lines = [line.strip() for line in done.stdout.splitlines() if "generated" in line]
    return f"status {done.returncode}; {' '.join(lines)}"


if __name__ == "__main__":
    main()
