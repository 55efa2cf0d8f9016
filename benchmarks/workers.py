"""What several workers and several actors cost: steps, exchanges, actors and a table on Ray.

    python benchmarks/workers.py [--parts steps input actors table]
                                 [--out benchmarks/results/workers.csv]

`steps` trains networks of 1, 4 and 16 MB of float32 weights on one batch of 64 rows with 1, 2 and 4
processes of one thread each on this machine, with stock `fit`, and takes each process' times from
`workers.csv` (see docs/guides/several_machines.md). Then again over a loopback of limited
bandwidth, in a network namespace of its own (needs root, `unshare`, `ip` and `tc`), and with a
worker that sleeps before each step.

`actors` certifies the 2,000 test images of `fashion_mnist_mini` by smoothing on Ray, in 40 equal
pieces, with one actor and with two of one thread each. The clock runs from the second piece of each
actor, when models are loaded and steps traced, to the last piece of all.

`input` decodes JPEG files of 400x300 pixels to 224x224 in one thread, as a streamed folder does.

`table` makes the rows of benchmarks/workers_table.yaml in one process of one thread, and with two
actors of one thread each, whole commands, and compares the rows.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).parents[1]
MEGABYTES = (1, 4, 16)
BATCH, STEPS = 64, 24
# Workers, megabits a second of the loopback (0: as it is), seconds that the last worker sleeps.
GROUPS = ((1, 0, 0.0), (2, 0, 0.0), (4, 0, 0.0), (2, 400, 0.0), (4, 400, 0.0), (2, 0, 0.1))
COLUMNS = (
    "part", "workers", "megabytes", "limit_mbit", "delay_s", "worker",
    "step_s", "own_s", "exchange_s", "pieces", "seconds", "per_s", "same",
)  # fmt: skip
LIMITED = (
    "ip link set lo up && tc qdisc add dev lo root tbf rate {0}mbit burst 256kb latency 400ms && "
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="CSV; parts that are not measured stay in it")
    parser.add_argument("--parts", nargs="+", default=["steps", "input", "actors", "table"])
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--group", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(Path(arguments.worker[0]), float(arguments.worker[1]))
        return
    if arguments.group:
        start_group(int(arguments.group[0]), float(arguments.group[1]))
        return
    rows: list[dict[str, Any]] = []
    if arguments.out and arguments.out.is_file():
        with arguments.out.open() as file:
            rows = [row for row in csv.DictReader(file) if row["part"] not in arguments.parts]
    measures = {"steps": steps, "input": decoding, "actors": actors, "table": table}
    for part in arguments.parts:
        for row in measures[part]():
            print(row, file=sys.stderr, flush=True)
            rows.append({"part": part, **row})
    with open(arguments.out, "w") if arguments.out else sys.stdout as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def steps() -> list[dict[str, Any]]:
    rows = []
    for workers, limit, delay in GROUPS:
        command = [sys.executable, __file__, "--group", str(workers), str(delay)]
        if limit:
            text = LIMITED.format(limit) + 'exec "$@"'
            command = ["unshare", "-n", "sh", "-c", text, "sh", *command]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(f"left out, {limit} Mbit/s: {done.stderr[-300:]}", file=sys.stderr)
            continue
        given = {"workers": workers, "limit_mbit": limit, "delay_s": delay}
        rows += [given | row for row in json.loads(done.stdout.splitlines()[-1])]
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def start_group(workers: int, delay: float) -> None:
    """Starts the workers of one cluster, and prints what the first has found."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(workers)]
    addresses = [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]
    for one in sockets:
        one.close()
    with tempfile.TemporaryDirectory() as folder:
        processes = []
        for index in range(workers):
            config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            slow = delay if index == workers - 1 else 0.0
            processes.append(
                subprocess.Popen(
                    [sys.executable, __file__, "--worker", folder, str(slow)],
                    env={**alone(), "TF_CONFIG": json.dumps(config)},
                    stdout=sys.stderr,
                )
            )
        for process in processes:
            if process.wait(300):
                sys.exit("a worker has failed")
        rows = []
        for megabytes in MEGABYTES:
            with open(Path(folder) / f"{megabytes}.csv") as file:
                last = [row for row in csv.DictReader(file) if row["epoch"] == "2"]
            names = ("worker", "step_s", "own_s", "exchange_s")
            rows += [{"megabytes": megabytes} | {name: row[name] for name in names} for row in last]
    print(json.dumps(rows))


def alone() -> dict[str, str]:
    """The environment of a process of one thread."""
    threads = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    return {**os.environ, **threads, "PYTHONPATH": str(ROOT)}


def work(folder: Path, delay: float) -> None:
    """Trains as one worker; the first writes the times."""
    import keras
    import numpy as np
    import tensorflow as tf

    from robustcls.distribution import for_workers
    from robustcls.distribution.timing import WorkerTimes

    several = len(json.loads(os.environ["TF_CONFIG"])["cluster"]["worker"]) > 1
    if not several:
        del os.environ["TF_CONFIG"]
    strategy = tf.distribute.MultiWorkerMirroredStrategy() if several else None

    class Own(keras.callbacks.Callback):
        """Sleeps before each step, and times a process that is alone."""

        def on_epoch_begin(self, epoch, logs=None):
            self.times = [time.perf_counter()]

        def on_train_batch_begin(self, batch, logs=None):
            time.sleep(delay)

        def on_train_batch_end(self, batch, logs=None):
            float(logs["loss"])
            self.times.append(time.perf_counter())

    rng = np.random.default_rng(0)
    images, labels = rng.random((BATCH, 1024), "float32"), rng.integers(0, 10, BATCH)
    data = tf.data.Dataset.from_tensors((images, labels)).repeat(STEPS)
    for megabytes in MEGABYTES:
        with strategy.scope() if strategy else tf.distribute.get_strategy().scope():
            width = megabytes * 1_000_000 // 4 // (1024 + 11)
            inputs = keras.Input((1024,))
            hidden = keras.layers.Dense(width, activation="relu")(inputs)
            model = for_workers(keras.Model(inputs, keras.layers.Dense(10)(hidden)))
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile(keras.optimizers.SGD(0.01), loss, jit_compile=False)
            path, own = folder / f"{megabytes}.csv", Own()
            callbacks = [own, *([WorkerTimes(path)] if several else [])]
            model.fit(data, epochs=2, verbose=0, callbacks=callbacks, shuffle=False)
        if not several:
            seconds = statistics.median(np.diff(own.times)[1:])
            path.write_text(f"epoch,worker,step_s,own_s,exchange_s\n2,0,{seconds},{seconds},0\n")


def decoding() -> list[dict[str, Any]]:
    import numpy as np
    from PIL import Image

    from robustcls.data.files import FileImages

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        names = np.array([f"{number}.jpg" for number in range(60)])
        for name in names:
            coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8))
            coarse.resize((400, 300), Image.Resampling.BICUBIC).save(f"{folder}/{name}")
        images = FileImages(Path(folder), names, (224, 224, 3), (224, 224))
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            for place in range(len(images)):
                images.decode(place)
            seconds.append(time.perf_counter() - start)
    best = statistics.median(seconds)
    return [{"pieces": len(names), "seconds": best, "per_s": len(names) / best}]


def actors() -> list[dict[str, Any]]:
    import keras

    from robustcls.distribution.ray_engine import measure_on_ray
    from robustcls.evaluation.runs.models import find_models
    from robustcls.evaluation.runs.work import open_work, work_of
    from robustcls.evaluation.smoothing.config import SmoothingConfig

    config = SmoothingConfig(samples=100, selection=20)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((28, 28, 1)),
                *(keras.layers.Conv2D(24, 3, activation="relu") for _ in range(3)),
                keras.layers.Flatten(),
                keras.layers.Dense(10),
            ]
        )
        model.save(f"{folder}/model.keras")
        for count in (1, 2):
            where: dict[str, Any] = {"path": f"{folder}/model.keras", "data": "fashion_mnist_mini"}
            where["out"] = f"{folder}/{count}"
            done: list[float] = []
            measure_on_ray(
                work_of(find_models(**where), config),
                lambda where=where: open_work(where, config, None),
                actors=count,
                tell=lambda line, done=done: done.append(time.perf_counter()),
            )
            start = 2 * count  # by then each actor has loaded and traced
            seconds, pieces = done[-1] - done[start - 1], len(done) - start
            row = {"workers": count, "pieces": pieces, "seconds": seconds}
            rows.append(row | {"per_s": pieces / seconds})
    return rows


def table() -> list[dict[str, Any]]:
    rows, found = [], []
    with tempfile.TemporaryDirectory() as folder:
        for count, flags in ((1, []), (2, ["--engine", "ray", "--actors", "2", "--threads", "1"])):
            command = [sys.executable, "-m", "anomaly", "benchmark", "--config"]
            command += [str(Path(__file__).with_name("workers_table.yaml"))]
            command += ["--out", f"{folder}/{count}", *flags]
            start = time.perf_counter()
            subprocess.run(command, env=alone(), check=True, stdout=sys.stderr)
            seconds = time.perf_counter() - start
            with open(f"{folder}/{count}/results.csv") as file:
                measured = list(csv.DictReader(file))
            for row in measured:  # what a clock measures is never the same
                del row["training s"], row["images/s"]
            found.append(measured)
            same = measured == found[0]
            row = {"workers": count, "pieces": len(measured), "seconds": seconds, "same": same}
            rows.append(row)
    return rows


if __name__ == "__main__":
    main()
