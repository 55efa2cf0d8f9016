"""Whether memory stays when a folder grows, and whether training waits for its files.

    python benchmarks/streaming.py [--out benchmarks/results/streaming.json]

Memory: for each number of pictures a process of its own opens the folder with `memory=0.02` (GiB),
so that every training split stays in its files, takes the fingerprint, trains a small network for
some steps and evaluates some batches; its peak resident memory is the figure. The pictures are
JPEG files of 32x32 pixels, of which a thousand differ; the others are links to them.

Training: `fit` of MobileNetV2 on pictures of 64x64 pixels, from memory and from the files in turn,
in one process; the ratio of a round is that of the steps a second.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
COUNTS = (10_000, 50_000, 200_000)
MEMORY = 0.02
CLASSES = 10
DIFFERENT = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the JSON to this file")
    parser.add_argument("--parts", nargs="+", default=["memory", "training"])
    parser.add_argument("--rounds", type=int, default=5, help="turns from memory and from files")
    parser.add_argument("--steps", type=int, default=5, help="training steps of a turn")
    parser.add_argument("--peak", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        print(json.dumps(peak(arguments.peak)))
        return
    found: dict[str, Any] = {}
    if arguments.out and arguments.out.is_file():
        found = json.loads(arguments.out.read_text())
    with tempfile.TemporaryDirectory() as folder:
        if "memory" in arguments.parts:
            found["memory"] = memory(Path(folder))
        if "training" in arguments.parts:
            found["training"] = training(Path(folder), arguments.rounds, arguments.steps)
    text = json.dumps(found, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


def make_pictures(folder: Path, count: int, side: int) -> None:
    """Makes pictures of `CLASSES` classes; those after the first `DIFFERENT` are links."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"class_{number % CLASSES}" / f"{number:07d}.jpg"
        if number < DIFFERENT:
            path.parent.mkdir(parents=True, exist_ok=True)
            coarse = rng.integers(0, 256, (4, 4, 3), np.uint8)
            Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(path)
        else:
            first = number % DIFFERENT
            os.link(folder / f"class_{first % CLASSES}" / f"{first:07d}.jpg", path)


def memory(folder: Path) -> list[dict[str, Any]]:
    rows = []
    for count in COUNTS:
        make_pictures(folder / str(count), count, 32)
        command = [sys.executable, __file__, "--peak", str(folder / str(count))]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append({"pictures": count, **json.loads(done.stdout.splitlines()[-1])})
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def peak(folder: Path) -> dict[str, Any]:
    """Opens a folder, trains and evaluates; returns what that took."""
    import keras

    import robustcls as rc
    from robustcls.data.pipeline import evaluation_batches

    start = time.perf_counter()
    splits = rc.load(folder, memory=MEMORY)
    opened = time.perf_counter() - start
    start = time.perf_counter()
    fingerprint = splits.fingerprint
    model = keras.Sequential(
        [
            keras.Input(splits.image_shape),
            keras.layers.Conv2D(16, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(CLASSES),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)
    hashed = time.perf_counter() - start
    model.fit(rc.train_batches(splits, batch_size=128).take(50), epochs=2, verbose=0)
    model.evaluate(evaluation_batches(splits.test).take(8), verbose=0)
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return {
        "peak_mib": round(int(line.split()[1]) / 1024, 1),
        "decoded_mib": round(splits.train.images.nbytes / 2**20, 1),
        "opening_seconds": round(opened, 1),
        "fingerprint_seconds": round(hashed, 1),
        "fingerprint": fingerprint[:16],
    }


def training(folder: Path, rounds: int, steps: int) -> dict[str, Any]:
    import keras

    import robustcls as rc

    make_pictures(folder / "64", 4000, 64)
    sources = {
        "memory": rc.load(folder / "64"),
        "files": rc.load(folder / "64", memory=MEMORY),
    }
    model = rc.build_classifier("mobilenet_v2", input_shape=(64, 64, 3), num_classes=CLASSES)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)
    seconds: dict[str, list[float]] = {name: [] for name in sources}
    processor: dict[str, list[float]] = {name: [] for name in sources}
    for number in range(rounds + 1):
        for name, splits in sources.items():
            batches = rc.train_batches(splits, batch_size=64).take(steps)
            start, cpu = time.perf_counter(), time.process_time()
            model.fit(batches, verbose=0)
            # The first round traces and warms up.
            if number:
                seconds[name].append(time.perf_counter() - start)
                processor[name].append(time.process_time() - cpu)
    ratios = [m / f for m, f in zip(seconds["memory"], seconds["files"], strict=True)]
    cpu_ratios = [m / f for m, f in zip(processor["memory"], processor["files"], strict=True)]
    return {
        "batch_size": 64,
        "seconds_a_step": {name: statistics.median(own) / steps for name, own in seconds.items()},
        "cpu_seconds_a_step": {
            name: statistics.median(own) / steps for name, own in processor.items()
        },
        "rate_from_files_over_memory": statistics.median(ratios),
        "cpu_of_memory_over_files": statistics.median(cpu_ratios),
    }


if __name__ == "__main__":
    main()
