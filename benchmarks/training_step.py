"""How long one `fit` step of MobileNetV2 takes, here and elsewhere.

    python benchmarks/training_step.py [--json] [--out benchmarks/results/training_step.json]

Contenders, all on float32 [128, 32, 32, 3] with SGD and momentum, stock strides:
  plain        a `robustcls` classifier
  adversarial  the same in AdversarialRegularization (FGSM, as NSL computes it)
  keras        keras.applications.MobileNetV2, Keras 3 as it comes
  nsl          nsl.keras.AdversarialRegularization around the same network, in tf-keras

They take turns, a few steps each, for some rounds; the figures are medians over all steps. The
last one needs `tf-keras` (extra `benchmarks`) and its own process. About four minutes on two
cores.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
SIZE, CLASSES = 32, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    parser.add_argument("--rounds", type=int, default=7, help="turns each contender takes")
    parser.add_argument("--steps", type=int, default=5, help="steps of a turn")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--worker", choices=["nsl"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        serve(arguments)
    else:
        report(measure(arguments), arguments)


def measure(arguments: argparse.Namespace) -> dict[str, list[float]]:
    import keras

    from robustcls import AdversarialRegularization, build_classifier

    def network() -> Any:
        return build_classifier(
            "mobilenet_v2", input_shape=(SIZE, SIZE, 3), num_classes=CLASSES, output_stride=32
        )

    stock = keras.applications.MobileNetV2(
        input_shape=(SIZE, SIZE, 3), weights=None, classes=CLASSES, classifier_activation=None
    )
    models = {
        "plain": network(),
        "adversarial": AdversarialRegularization(network()),
        "keras": stock,
    }
    for model in models.values():
        model.compile(
            keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
    images, labels = batch(arguments.batch_size)
    times: dict[str, list[float]] = {name: [] for name in [*models, "nsl"]}
    with NslWorker(arguments) as worker:
        for round_number in range(arguments.rounds + 1):
            for name, model in models.items():
                taken = fit(keras, model, images, labels, arguments.steps)
                # The first round traces and warms up.
                times[name] += taken if round_number else []
            taken = worker.take_turn()
            times["nsl"] += taken if round_number else []
    return times


def serve(arguments: argparse.Namespace) -> None:
    """The process of the real NSL wrapper: a turn for each line that comes in."""
    import tensorflow as tf

    from robustcls.training.adversarial._nsl import nsl

    keras = tf.keras
    base = keras.applications.MobileNetV2(
        input_shape=(SIZE, SIZE, 3), weights=None, classes=CLASSES, classifier_activation=None
    )
    model = nsl.keras.AdversarialRegularization(
        base,
        adv_config=nsl.configs.make_adv_reg_config(
            multiplier=0.2, adv_step_size=8 / 255, adv_grad_norm="infinity"
        ),
    )
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    images, labels = batch(arguments.batch_size)
    for _ in sys.stdin:
        named = {base.input_names[0]: images, "label": labels}
        print(json.dumps(fit(keras, model, named, None, arguments.steps)), flush=True)


class NslWorker:
    """The other process, which works only when asked."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        command = [sys.executable, __file__, "--worker", "nsl"]
        command += ["--steps", str(arguments.steps), "--batch_size", str(arguments.batch_size)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TF_USE_LEGACY_KERAS": "1"},
        )

    def __enter__(self) -> NslWorker:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.stdin.close()
        self.process.wait()

    def take_turn(self) -> list[float]:
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("The NSL process has ended. Is tf-keras installed?")
        return json.loads(line)


def batch(size: int) -> tuple[Any, Any]:
    import numpy as np

    generator = np.random.default_rng(0)
    images = generator.uniform(size=(size, SIZE, SIZE, 3)).astype(np.float32)
    return images, generator.integers(0, CLASSES, size)


def fit(keras: Any, model: Any, images: Any, labels: Any, steps: int) -> list[float]:
    """Seconds of each of `steps` steps of `fit`; the first, which starts the pipeline, is out."""
    import tensorflow as tf

    class Timer(keras.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self.seconds: list[float] = []

        def on_train_batch_begin(self, number: int, logs: Any = None) -> None:
            self.begin = time.perf_counter()

        def on_train_batch_end(self, number: int, logs: Any = None) -> None:
            self.seconds.append(time.perf_counter() - self.begin)

    data = images if labels is None else (images, labels)
    dataset = tf.data.Dataset.from_tensors(data).cache().repeat(steps + 1).prefetch(2)
    timer = Timer()
    model.fit(dataset, callbacks=[timer], verbose=0, shuffle=False)
    return timer.seconds[1:]


def report(times: dict[str, list[float]], arguments: argparse.Namespace) -> None:
    from robustcls.runs import versions, write_json

    medians = {name: statistics.median(values) for name, values in times.items()}
    result = {
        "ratios": {
            "plain_to_keras": medians["plain"] / medians["keras"],
            "adversarial_to_plain": medians["adversarial"] / medians["plain"],
            "adversarial_to_nsl": medians["adversarial"] / medians["nsl"],
        },
        "targets": {
            "plain_to_keras": 0.5,
            "adversarial_to_plain": 2.7,
            "adversarial_to_nsl": 1.0,
        },
        "milliseconds": {name: 1000 * value for name, value in medians.items()},
        "steps": {name: len(values) for name, values in times.items()},
        "batch_size": arguments.batch_size,
        "cores": os.cpu_count(),
        "versions": versions(),
    }
    if arguments.out:
        write_json(arguments.out, result)
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    for name, value in medians.items():
        print(f"{name:12} {1000 * value:7.1f} ms a step")
    for name, value in result["ratios"].items():
        print(f"{name:21} {value:5.2f}  (target <= {result['targets'][name]})")


if __name__ == "__main__":
    main()
