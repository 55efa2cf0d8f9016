"""Peak memory of a whole evaluation, on 1,000 and on 10,000 images.

    python benchmarks/evaluation_memory.py --out benchmarks/results/evaluation_memory.json

Each count runs in its own process: `evaluate_models`, as `robustcls evaluate` calls it, with FGSM,
PGD-3, Square with 20 queries, the noises, the curve over epsilon and all corruptions of
CIFAR-C, on training images of the embedded set. The model is a small untrained network, since the
figure is not about the model. Before it is measured, each process evaluates 256 images, so that
compiled graphs and libraries are there. A quarter of an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
COUNTS = (1000, 10_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(peak(arguments.worker)))
        return
    from robustcls.runs import versions, write_json

    peaks = {str(count): in_own_process(count) for count in COUNTS}
    fewer, more = peaks.values()
    result = {
        "command": "python benchmarks/evaluation_memory.py",
        "megabytes": peaks,
        "growth": more["peak"] - fewer["peak"],
        # The images themselves are held by whoever loads them.
        "growth_besides_images": more["peak"] - more["images"] - fewer["peak"] + fewer["images"],
        "cores": os.cpu_count(),
        "versions": versions(),
    }
    print(json.dumps(result, indent=2))
    if arguments.out:
        write_json(arguments.out, result)


def in_own_process(count: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--worker", str(count)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def peak(count: int) -> dict[str, float]:
    """Megabytes: peak of the process, before the evaluation and after; size of the images."""
    import keras
    import numpy as np

    import robustcls as rc
    from robustcls.data.splits import Split

    splits = rc.load("fashion_mnist_mini")
    images = np.concatenate([splits.train.images, splits.test.images])[:count]
    labels = np.concatenate([splits.train.labels, splits.test.labels])[:count]
    test = Split(images, labels, np.arange(count).astype(str))
    layers = keras.layers
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input(images.shape[1:]),
            layers.Conv2D(16, 3, strides=2, activation="relu"),
            layers.Conv2D(32, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    # Labels that the model gives itself, so that attacks have work on every image.
    answers = model.predict(test.float_images(), verbose=0).argmax(1)
    test = Split(images, answers, test.ids)
    class_names = splits.class_names
    del splits, labels
    evaluate(model, test.take(slice(256)), class_names)
    before = peak_so_far()
    evaluate(model, test, class_names)
    return {
        "before": before,
        "peak": peak_so_far(),
        "images": images.nbytes / 2**20,
        "images_as_float32": images.size * 4 / 2**20,
    }


def evaluate(model: Any, test: Any, class_names: tuple[str, ...]) -> None:
    from robustcls.evaluation.runs.comparison import evaluate_models
    from robustcls.evaluation.runs.config import EvaluationConfig
    from robustcls.evaluation.runs.models import ModelsAndImages, StoredModel

    with tempfile.TemporaryDirectory() as folder:
        evaluated = ModelsAndImages(
            title="memory",
            folder=Path(folder),
            models=(StoredModel("model", "none", lambda: model),),
            test=test,
            class_names=class_names,
            source="fashion_mnist_mini",
            fingerprint="none",
        )
        config = EvaluationConfig(
            attack="fgsm,pgd,square", epsilon=0.05, steps=3, queries=20, corruptions="cifar_c"
        )
        evaluate_models(evaluated, config)


def peak_so_far() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
