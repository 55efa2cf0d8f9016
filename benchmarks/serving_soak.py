"""Whether `robustcls serve` stays right under load while its model is replaced and misused.

    python benchmarks/serving_soak.py [--seconds 600] [--out benchmarks/results/serving_soak.json]

32 gRPC callers and 2 REST callers send single images without a pause; one request in a hundred is
malformed. Every 20 s the next version replaces the last, in turn from two models with other
weights; how long it took to answer is noted. Each answer is compared with what the version that
gave it must say of that very image. The server's memory is read every 5 s. Time in which the whole
run was stopped, on a machine that others use too, does not count, and no request is given up. Ends
with status 1 if a good request failed, a malformed one did not, or an answer was another's.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

from serving import CLASSES, NAME, build, png, server

EVERY, KEPT = 20, 3
PATIENCE = 3600  # seconds
TOLERANCE = 1e-4


class Clock:
    """Counts the seconds in which this process ran."""

    def __init__(self, limit: float) -> None:
        self.seconds, self.stopped, self._limit = 0.0, 0.0, limit
        threading.Thread(target=self._run, daemon=True).start()

    @property
    def over(self) -> bool:
        return self.seconds >= self._limit

    def _run(self) -> None:
        before = time.monotonic()
        while True:
            time.sleep(0.05)
            now = time.monotonic()
            if now - before < 5:
                self.seconds += now - before
            else:
                self.stopped += now - before
            before = now


class Tally:
    """What happened, from all callers."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.versions: set[int] = set()
        self.published: dict[int, float] = {}
        self.waited: dict[int, float] = {}

    def answered_by(self, version: int, second: float) -> None:
        if version not in self.versions:
            self.versions.add(version)
            self.waited[version] = second - self.published[version]

    def add(self, outcome: str, reason: str = "") -> None:
        with self.lock:
            self.counts[outcome] += 1
            if reason:
                self.reasons[f"{outcome}: {reason[:120]}"] += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--out", type=Path, help="write the JSON to this file")
    arguments = parser.parse_args()
    report = soak(arguments.seconds)
    text = json.dumps(report, indent=2)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")
    print(text)
    bad = ("good_failed", "wrong_answer", "malformed_answered", "malformed_other_error")
    sys.exit(any(report["requests"].get(name) for name in bad) or not report["server_alive"])


def soak(seconds: float) -> dict[str, Any]:
    import numpy as np

    import robustcls as rc

    images = rc.load("fashion_mnist_mini").test.float_images()[:256]
    names = [f"class {number}" for number in range(CLASSES)]
    tally, stop = Tally(), threading.Event()
    memory: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        made = []
        expected = []
        for seed in range(2):
            model = build(seed)
            made.append(rc.export(model, Path(folder) / f"made-{seed}", class_names=names))
            expected.append(np.asarray(model(images, training=False)))
        served = Path(folder) / NAME
        publish(made[1], served, 1)  # version n answers as model n % 2
        tally.published[1] = 0.0
        with server(served, "--timeout", str(PATIENCE)) as (process, rest, grpc_port):
            clock = Clock(seconds)
            threads = [
                threading.Thread(target=rest_caller, args=(rest, images, expected, tally, stop, n))
                for n in range(2)
            ]
            threads.append(
                threading.Thread(target=replace, args=(made, served, tally, clock, stop))
            )
            threads.append(threading.Thread(target=watch, args=(process.pid, memory, clock, stop)))
            for thread in threads:
                thread.start()
            asyncio.run(grpc_callers(grpc_port, images, expected, tally, clock))
            stop.set()
            for thread in threads:
                thread.join()
            alive = process.poll() is None
    settled = [entry["megabytes"] for entry in memory if entry["second"] >= min(120, seconds / 2)]
    return {
        "command": f"python benchmarks/serving_soak.py --seconds {seconds:g} "
        "--out benchmarks/results/serving_soak.json",
        "date": date.today().isoformat(),
        "cores": os.cpu_count(),
        "seconds": seconds,
        "requests": dict(tally.counts),
        "reasons": dict(tally.reasons.most_common(20)),
        "seconds_stopped_by_others": round(clock.stopped),
        "versions_published": sorted(tally.published),
        "versions_that_answered": sorted(tally.versions),
        "seconds_until_a_version_answered": {n: round(t, 1) for n, t in tally.waited.items()},
        "server_alive": alive,
        "megabytes_after_two_minutes": {
            "first": settled[0],
            "last": settled[-1],
            "lowest": min(settled),
            "highest": max(settled),
        },
        "memory": memory,
    }


def publish(version: Path, served: Path, number: int) -> None:
    served.mkdir(exist_ok=True)
    shutil.copytree(version, served / f".copy-{number}")
    os.rename(served / f".copy-{number}", served / str(number))


def replace(
    made: list[Path], served: Path, tally: Tally, clock: Clock, stop: threading.Event
) -> None:
    number, due = 1, float(EVERY)
    while not stop.wait(0.1):
        if clock.seconds < due:
            continue
        number, due = number + 1, due + EVERY
        tally.published[number] = clock.seconds
        publish(made[number % 2], served, number)
        shutil.rmtree(served / str(number - KEPT), ignore_errors=True)


def watch(process: int, memory: list, clock: Clock, stop: threading.Event) -> None:
    while not stop.wait(5):
        status = Path(f"/proc/{process}/status").read_text()
        kilobytes = int(status.partition("VmRSS:")[2].split()[0])
        memory.append({"second": round(clock.seconds), "megabytes": round(kilobytes / 1024)})


async def grpc_callers(port: int, images: Any, expected: list, tally: Tally, clock: Clock) -> None:
    import grpc
    import numpy as np
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    from robustcls.serving.tensors import fill_proto

    def message(signature: str = "", **inputs: Any) -> Any:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = NAME
        request.model_spec.signature_name = signature
        for name, value in inputs.items():
            fill_proto(request.inputs[name], value)
        request.output_filter.append("logits")
        return request

    good = [message(images=image[None]) for image in images]
    files = [message("serving_bytes", image_bytes=np.array([png(x)], object)) for x in images]
    malformed = [
        message(images=np.full((1, 28, 28, 1), np.nan, np.float32)),
        message(images=np.zeros((1, 29, 28, 1), np.float32)),
        message(images=np.zeros((1, 28, 28, 1), np.float64)),
        message(pictures=images[:1]),
        message("no_such_signature", images=images[:1]),
        message("serving_bytes", image_bytes=np.array([png(images[0])[:90]], object)),
        message("serving_bytes", image_bytes=np.array([os.urandom(500)], object)),
    ]

    async def caller(stub: Any, draw: random.Random) -> None:
        while not clock.over:
            if draw.random() < 0.01:
                try:
                    await stub.Predict(draw.choice(malformed), timeout=PATIENCE)
                    tally.add("malformed_answered")
                except grpc.aio.AioRpcError as error:
                    refused = error.code() == grpc.StatusCode.INVALID_ARGUMENT
                    tally.add(
                        "malformed_refused" if refused else "malformed_other_error",
                        "" if refused else str(error.details()),
                    )
                continue
            place = draw.randrange(len(images))
            request = good[place] if draw.random() < 0.9 else files[place]
            try:
                answer = await stub.Predict(request, timeout=PATIENCE)
            except grpc.aio.AioRpcError as error:
                tally.add("good_failed", f"{error.code()} {error.details()}")
                continue
            version = answer.model_spec.version.value
            tally.answered_by(version, clock.seconds)
            logits = tf.make_ndarray(answer.outputs["logits"])[0]
            right = np.abs(logits - expected[version % 2][place]).max() <= TOLERANCE
            tally.add("good_answered" if right else "wrong_answer")

    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        await asyncio.gather(*(caller(stub, random.Random(n)) for n in range(32)))


def rest_caller(
    port: int, images: Any, expected: list, tally: Tally, stop: threading.Event, seed: int
) -> None:
    import numpy as np

    draw = random.Random(1000 + seed)
    malformed = ['{"instances": [[1, 2]]}', "{", '{"inputs": {"imgs": 1}}', '{"instances": [NaN]}']
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    while not stop.is_set():
        bad = draw.random() < 0.01
        place = draw.randrange(len(images))
        good = json.dumps({"instances": [images[place].tolist()]})
        body = draw.choice(malformed) if bad else good
        connection.request("POST", f"/v1/models/{NAME}:predict", body)
        answer = connection.getresponse()
        text = answer.read()
        if bad:
            tally.add("malformed_refused" if answer.status == 400 else "malformed_answered")
        elif answer.status != 200:
            tally.add("good_failed", f"{answer.status} {text[:100]!r}")
        else:
            # REST does not say which version answered.
            logits = np.array(json.loads(text)["predictions"][0]["logits"])
            right = min(np.abs(logits - one[place]).max() for one in expected) <= TOLERANCE
            tally.add("good_answered" if right else "wrong_answer")
    connection.close()


if __name__ == "__main__":
    main()
