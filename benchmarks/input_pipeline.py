"""How many images a second the input pipeline delivers, and whether training waits for it.

    python benchmarks/input_pipeline.py [--json] [--out benchmarks/results/input_pipeline.json]

Pipelines, at each of three image sizes, batch 128:
  empty       shuffled batches, no augmentation
  default     AugmentationPolicy()
  all_noises  the same with one of the four noises on every image

They take turns, a pass over the images each, for some rounds in one process; the figures are
medians over the passes. Then MobileNetV2 (32x32) trains, a few steps in turn, on one repeated
batch and on each pipeline. About three minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
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
    parser.add_argument("--rounds", type=int, default=9, help="turns each contender takes")
    parser.add_argument("--images", type=int, default=5120, help="images of a pass")
    parser.add_argument("--steps", type=int, default=10, help="training steps of a turn")
    parser.add_argument("--batch_size", type=int, default=128)
    arguments = parser.parse_args()
    rates = {name: measure(shape, arguments) for name, shape in SHAPES.items()}
    report(rates, measure_training(SHAPES[TRAINED], arguments), arguments)


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


def measure(shape: tuple[int, int, int], arguments: argparse.Namespace) -> dict[str, float]:
    """Images a second of each pipeline on its own."""
    datasets = pipelines(shape, arguments)
    rates: dict[str, list[float]] = {name: [] for name in datasets}
    for round_number in range(arguments.rounds + 1):
        for name, dataset in datasets.items():
            begin = time.perf_counter()
            batches = sum(1 for _ in dataset)
            taken = time.perf_counter() - begin
            # The first round traces and warms up.
            if round_number:
                rates[name].append(batches * arguments.batch_size / taken)
    return {name: statistics.median(values) for name, values in rates.items()}


def measure_training(
    shape: tuple[int, int, int], arguments: argparse.Namespace
) -> dict[str, float]:
    """Images a second of `fit`, fed by one repeated batch and by each pipeline."""
    import keras

    from robustcls import build_classifier

    model = build_classifier("mobilenet_v2", input_shape=shape, num_classes=10, output_stride=32)
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    steps = arguments.steps
    datasets = pipelines(shape, arguments)
    fed = {"repeated_batch": datasets["empty"].take(1).cache().repeat(steps + 1)}
    fed |= {name: dataset.repeat().take(steps + 1) for name, dataset in datasets.items()}
    rates: dict[str, list[float]] = {name: [] for name in fed}
    for round_number in range(max(arguments.rounds // 2, 1) + 1):
        for name, dataset in fed.items():
            timer = Timer(keras)
            model.fit(dataset, callbacks=[timer.callback], verbose=0, shuffle=False)
            if round_number:
                rates[name].append(steps * arguments.batch_size / timer.seconds())
    return {name: statistics.median(values) for name, values in rates.items()}


class Timer:
    """From the end of the first step, which fills the pipeline, to the end of the last."""

    def __init__(self, keras: Any) -> None:
        self.ends: list[float] = []
        self.callback = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda number, logs: self.ends.append(time.perf_counter())
        )

    def seconds(self) -> float:
        return self.ends[-1] - self.ends[0]


def report(
    rates: dict[str, dict[str, float]], training: dict[str, float], arguments: argparse.Namespace
) -> None:
    from robustcls.runs import versions, write_json

    step = training["repeated_batch"]
    ratios = {name: rates[TRAINED][name] / step for name in ("default", "all_noises")}
    result = {
        "images_per_second": rates,
        "training_images_per_second": training,
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
    print(f"{'images a second':24}" + "".join(f"{name:>16}" for name in rates[TRAINED]))
    for shape, values in rates.items():
        print(f"pipeline {shape:15}" + "".join(f"{value:16,.0f}" for value in values.values()))
    fed = "".join(f"{training[name]:16,.0f}" for name in rates[TRAINED])
    print(f"training {TRAINED:15}{fed}")
    print(f"training on one repeated batch: {step:,.0f} images a second")
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.1f} times the training rate (target >= {TARGET})")


if __name__ == "__main__":
    main()
