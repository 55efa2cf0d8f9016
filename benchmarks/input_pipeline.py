"""How many images a second the input pipeline delivers, and whether training waits for it.

    python benchmarks/input_pipeline.py [--json] [--out benchmarks/results/input_pipeline.json]

Pipelines, at each of three image sizes, batch 128:
  empty       shuffled batches, no augmentation
  default     AugmentationPolicy()
  all_noises  the same with one of the four noises on every image
Training: `fit` of MobileNetV2 (32x32), fed by one repeated batch and by each pipeline.

All take turns in one process, for some rounds; the figures are medians over the rounds, and
ratios are those of one round. Processor time is counted too: other programs hardly change it, and
where training has the same cores it is what the pipeline takes away. About four minutes on two
cores.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
SHAPES = {"32x32x3": (32, 32, 3), "28x28x1": (28, 28, 1), "64x64x3": (64, 64, 3)}
TRAINED = "32x32x3"
TARGET = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    parser.add_argument("--rounds", type=int, default=7, help="turns each contender takes")
    parser.add_argument("--images", type=int, default=3840, help="images of a pass")
    parser.add_argument("--steps", type=int, default=10, help="training steps of a turn")
    parser.add_argument("--batch_size", type=int, default=128)
    arguments = parser.parse_args()
    report(measure(arguments), arguments)


Turn = Callable[[], tuple[int, float, float]]
"""Does its work; returns images, seconds and processor seconds."""


def measure(arguments: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Images a second and processor milliseconds an image of every turn, by contender."""
    turns: dict[str, Turn] = {}
    for shape in SHAPES:
        for name, dataset in pipelines(SHAPES[shape], arguments).items():
            turns[f"{shape} {name}"] = passing(dataset, arguments)
    turns |= training(arguments)
    times: dict[str, dict[str, list[float]]] = {
        name: {"images_per_second": [], "cpu_ms_per_image": []} for name in turns
    }
    for round_number in range(arguments.rounds + 1):
        for name, turn in turns.items():
            count, seconds, cpu = turn()
            # The first round traces and warms up.
            if round_number:
                times[name]["images_per_second"].append(count / seconds)
                times[name]["cpu_ms_per_image"].append(1000 * cpu / count)
    return times


def pipelines(shape: tuple[int, int, int], arguments: argparse.Namespace) -> dict[str, Any]:
    import numpy as np

    from robustcls import AugmentationPolicy, train_batches
    from robustcls.data import Split

    count = arguments.images
    images = np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)
    split = Split(images, np.arange(count) % 10, np.arange(count))
    policies = {
        "empty": None,
        "default": AugmentationPolicy(),
        "all_noises": AugmentationPolicy(noise_probability=1.0, speckle_stddev=0.2),
    }
    return {
        name: train_batches(split, policy, batch_size=arguments.batch_size)
        for name, policy in policies.items()
    }


def passing(dataset: Any, arguments: argparse.Namespace) -> Turn:
    """A turn that reads the dataset to its end."""

    def turn() -> tuple[int, float, float]:
        begin, cpu = time.perf_counter(), time.process_time()
        batches = sum(1 for _ in dataset)
        count = batches * arguments.batch_size
        return count, time.perf_counter() - begin, time.process_time() - cpu

    return turn


def training(arguments: argparse.Namespace) -> dict[str, Turn]:
    """A turn of `fit` for each way to feed it."""
    import keras

    from robustcls import build_classifier

    shape = SHAPES[TRAINED]
    model = build_classifier("mobilenet_v2", input_shape=shape, num_classes=10, output_stride=32)
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    steps = arguments.steps

    def fitting(dataset: Any) -> Turn:
        def turn() -> tuple[int, float, float]:
            # From the end of the first step, which fills the pipeline, to the end of the last.
            ends: list[tuple[float, float]] = []
            timer = keras.callbacks.LambdaCallback(
                on_train_batch_end=lambda number, logs: ends.append(
                    (time.perf_counter(), time.process_time())
                )
            )
            model.fit(dataset, callbacks=[timer], verbose=0, shuffle=False)
            (begin, cpu_begin), (end, cpu_end) = ends[0], ends[-1]
            return steps * arguments.batch_size, end - begin, cpu_end - cpu_begin

        return turn

    datasets = pipelines(shape, arguments)
    fed = {"repeated_batch": datasets["empty"].take(1).cache().repeat(steps + 1)}
    fed |= {name: dataset.repeat().take(steps + 1) for name, dataset in datasets.items()}
    return {f"training {name}": fitting(dataset) for name, dataset in fed.items()}


def report(times: dict[str, dict[str, list[float]]], arguments: argparse.Namespace) -> None:
    from robustcls.runs import versions, write_json

    step = times["training repeated_batch"]
    ratios = {}
    for name in ("default", "all_noises"):
        pipeline = times[f"{TRAINED} {name}"]
        speed = zip(pipeline["images_per_second"], step["images_per_second"], strict=True)
        work = zip(step["cpu_ms_per_image"], pipeline["cpu_ms_per_image"], strict=True)
        ratios[name] = {
            "images_per_second": statistics.median(ours / theirs for ours, theirs in speed),
            "cpu": statistics.median(theirs / ours for theirs, ours in work),
        }
    medians = {
        name: {unit: statistics.median(values) for unit, values in units.items()}
        for name, units in times.items()
    }
    result = {
        "medians": medians,
        "pipeline_to_training": ratios,
        "target": TARGET,
        "batch_size": arguments.batch_size,
        "rounds": arguments.rounds,
        "cores": os.cpu_count(),
        "versions": versions(),
    }
    if arguments.out:
        write_json(arguments.out, result)
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    print(f"{'':25}{'images/s':>10}{'CPU ms/image':>14}")
    for name, units in medians.items():
        print(f"{name:25}{units['images_per_second']:10,.0f}{units['cpu_ms_per_image']:14.3f}")
    for name, ratio in ratios.items():
        print(
            f"{name}: {ratio['images_per_second']:.1f} times the images a second of training, "
            f"{ratio['cpu']:.1f} times by processor time (target >= {TARGET})"
        )


if __name__ == "__main__":
    main()
