r"""PGD-20 on a MobileNetV2 of 32x32 images: here, in ART and in Foolbox.

    results=benchmarks/results
    python benchmarks/attacks_vs_peers.py --model plain --out $results/attacks_plain.json
    python benchmarks/attacks_vs_peers.py --model robust --out $results/attacks_robust.json
    python benchmarks/attacks_vs_peers.py --model plain --strength 5 --compiled \
        --out $results/attacks_plain_strength.json
    python benchmarks/attacks_vs_peers.py --model robust --strength 8 --compiled \
        --out $results/attacks_robust_strength.json
    python benchmarks/attacks_vs_peers.py --model plain --memory --out $results/attacks_memory.json

All attack the same Keras model in the same process: the same 512 test images of the embedded set,
all of which it classifies right, L-infinity, epsilon 8/255, 20 steps of epsilon/8 from a random
start, batches of 128. `active_set` and `every_image` are ours; `art` and `foolbox` are used as
their documentation does or, with --compiled, with the model in a `tf.function`. The contenders
take turns; the times are medians over the turns, up to the verdict, which is the robust accuracy.
Each has one step of warm-up before, whose time is `first_step_seconds`.

One random start moves a robust accuracy by about half a point, so a single turn does not say who
is stronger. With --strength N each contender attacks N times from other starts, and the result is
the mean over them, its standard deviation, and our mean less each peer's with its standard error.

The model is trained at the first call and kept in --models: `plain` on clean images, `robust` with
adversarial regularization. Training takes two and five minutes on two cores, each comparison about
five, two with --compiled, and --strength 8 about three. With --memory our attack alone runs on
1,000 and on 10,000 images, each in its own process. Needs the extra `benchmarks`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
SIZE, CLASSES, BATCH, EPSILON = 32, 10, 128, 8 / 255
TARGETS = {"active_set": 8.0, "every_image": 3.5}
# Images, labels, steps and a seed to the robust accuracy.
Contender = Callable[[Any, Any, int, int], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=["plain", "robust"], default="plain")
    parser.add_argument("--models", type=Path, default=Path("runs/attacks_vs_peers"))
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3, help="turns each contender takes")
    parser.add_argument("--compiled", action="store_true", help="compile the peers' model")
    parser.add_argument("--strength", type=int, metavar="N", help="compare N random starts instead")
    parser.add_argument("--memory", action="store_true", help="measure our peak memory instead")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    model = trained(arguments)
    if arguments.worker:
        print(json.dumps(peak(model, arguments.worker)))
        return
    measure = memory if arguments.memory else strength if arguments.strength else compare
    result = measure(model, arguments)
    from robustcls.runs import versions, write_json

    packages = [] if arguments.memory else ["adversarial-robustness-toolbox", "foolbox"]
    flags = ["--memory"] * arguments.memory + ["--compiled"] * arguments.compiled
    if arguments.strength:
        flags += ["--strength", str(arguments.strength)]
    command = ["python benchmarks/attacks_vs_peers.py --model", arguments.model, *flags]
    result = (
        {"command": " ".join(command)}
        | result
        | {"cores": os.cpu_count(), "versions": versions() | of_packages(packages)}
    )
    print(json.dumps(result, indent=2))
    if arguments.out:
        write_json(arguments.out, result)


def of_packages(names: list[str]) -> dict[str, str]:
    import importlib.metadata

    return {name: importlib.metadata.version(name) for name in names}


def images_of(split: Any) -> Any:
    """The 28x28 gray images as 32x32 colour ones."""
    import numpy as np

    padded = np.pad(split.float_images(), [(0, 0), (2, 2), (2, 2), (0, 0)])
    return np.repeat(padded, 3, axis=-1)


def trained(arguments: argparse.Namespace) -> Any:
    import keras

    import robustcls as rc

    path = arguments.models / f"{arguments.model}.keras"
    if path.is_file():
        return keras.saving.load_model(path, compile=False)
    splits = rc.load("fashion_mnist_mini")
    images, labels = images_of(splits.train), splits.train.labels
    # The network's own strides, as everybody measures it.
    model = rc.build_classifier(
        "mobilenet_v2", input_shape=(SIZE, SIZE, 3), num_classes=CLASSES, output_stride=32
    )
    trainer = model
    if arguments.model == "robust":
        trainer = rc.AdversarialRegularization(model, multiplier=1.0, step_size=EPSILON)
    epochs = 8
    rate = keras.optimizers.schedules.CosineDecay(0.05, epochs * (len(images) // BATCH))
    trainer.compile(
        keras.optimizers.SGD(rate, momentum=0.9, nesterov=True),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    keras.utils.set_random_seed(0)
    trainer.fit(images, labels, batch_size=BATCH, epochs=epochs, verbose=2)
    arguments.models.mkdir(parents=True, exist_ok=True)
    model.save(path)
    return model


def prepared(model: Any, arguments: argparse.Namespace) -> tuple[Any, Any, float]:
    """Images that the model classifies right, their labels, and its clean accuracy."""
    import numpy as np

    import robustcls as rc

    test = rc.load("fashion_mnist_mini").test
    images, labels = images_of(test), test.labels
    right = np.flatnonzero(model.predict(images, verbose=0).argmax(1) == labels)
    chosen = right[: arguments.images]
    return images[chosen], labels[chosen], len(right) / len(test)


def contenders_of(model: Any, arguments: argparse.Namespace) -> dict[str, Contender]:
    network = compiled(model) if arguments.compiled else model
    return ours(model) | art(network) | foolbox(network)


def compare(model: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    images, labels, clean = prepared(model, arguments)
    contenders = contenders_of(model, arguments)
    first = {name: timed(run, images, labels, 1, 0)[0] for name, run in contenders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    processor: dict[str, list[float]] = {name: [] for name in contenders}
    accuracy: dict[str, list[float]] = {name: [] for name in contenders}
    for seed in range(arguments.rounds):
        for name, run in contenders.items():
            taken, used, found = timed(run, images, labels, arguments.steps, seed)
            seconds[name].append(taken)
            processor[name].append(used)
            accuracy[name].append(found)
            print(f"{name:17} {taken:7.2f} s  robust {found:.4f}", file=sys.stderr)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "model": arguments.model,
        "clean_accuracy": clean,
        "images": len(images),
        "steps": arguments.steps,
        "rounds": arguments.rounds,
        "peers_compiled": arguments.compiled,
        "times_faster": {
            f"{name}_than_{peer}": medians[peer] / medians[name]
            for name in TARGETS
            for peer in ("art", "foolbox")
        },
        "targets": TARGETS,
        "robust_accuracy": {name: statistics.mean(found) for name, found in accuracy.items()},
        "seconds": medians,
        "all_seconds": seconds,
        # Of all cores together; says the same on a machine that does other things as well.
        "processor_seconds": {name: statistics.median(v) for name, v in processor.items()},
        "image_steps_per_second": {
            # What an image skips is not counted as done.
            name: len(images) * arguments.steps / taken
            for name, taken in medians.items()
            if name != "active_set"
        },
        "first_step_seconds": first,
    }


def strength(model: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    """Robust accuracies over many random starts, in %, and what lies between ours and theirs."""
    images, labels, clean = prepared(model, arguments)
    contenders = contenders_of(model, arguments)
    del contenders["every_image"]  # The same verdict, later.
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for seed in range(arguments.strength):
        for name, run in contenders.items():
            found[name].append(100 * run(images, labels, arguments.steps, seed))
            print(f"{name:17} {found[name][-1]:6.2f} % robust", file=sys.stderr, flush=True)
    mean = {name: statistics.mean(values) for name, values in found.items()}
    return {
        "model": arguments.model,
        "clean_accuracy": clean,
        "images": len(images),
        "steps": arguments.steps,
        "starts": arguments.strength,
        "peers_compiled": arguments.compiled,
        "robust_accuracy_in_percent": {
            name: {"mean": mean[name], "standard_deviation": statistics.stdev(values)}
            for name, values in found.items()
        },
        "points_above": {
            peer: {
                "mean": mean["active_set"] - mean[peer],
                "standard_error": standard_error(found["active_set"], found[peer]),
            }
            for peer in ("art", "foolbox")
        },
        "target_points_above": 0.5,
        "all_in_percent": found,
    }


def standard_error(ours: list[float], theirs: list[float]) -> float:
    """Of the difference of the means, over starts that are drawn apart."""
    variance = statistics.variance(ours) / len(ours) + statistics.variance(theirs) / len(theirs)
    return variance**0.5


def timed(
    run: Contender, images: Any, labels: Any, steps: int, seed: int
) -> tuple[float, float, float]:
    """Seconds on the clock and of the processor, and the robust accuracy."""
    begin, begin_cpu = time.perf_counter(), time.process_time()
    accuracy = run(images, labels, steps, seed)
    return time.perf_counter() - begin, time.process_time() - begin_cpu, accuracy


def ours(model: Any) -> dict[str, Contender]:
    from robustcls.attacks import PGD

    def attack(active_set: bool) -> Contender:
        def run(images: Any, labels: Any, steps: int, seed: int) -> float:
            pgd = PGD(epsilon=EPSILON, steps=steps, step_size=EPSILON / 8, seed=seed)
            result = pgd(model, images, labels, batch_size=BATCH, active_set=active_set)
            return result.robust_accuracy

        return run

    return {"active_set": attack(True), "every_image": attack(False)}


def art(model: Any) -> dict[str, Contender]:
    import keras
    import numpy as np
    from art.attacks.evasion import ProjectedGradientDescentTensorFlowV2
    from art.estimators.classification import TensorFlowV2Classifier

    classifier = TensorFlowV2Classifier(
        model=model,
        nb_classes=CLASSES,
        input_shape=(SIZE, SIZE, 3),
        loss_object=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        clip_values=(0.0, 1.0),
    )

    def run(images: Any, labels: Any, steps: int, seed: int) -> float:
        keras.utils.set_random_seed(seed)
        attack = ProjectedGradientDescentTensorFlowV2(
            classifier,
            norm=np.inf,
            eps=EPSILON,
            eps_step=EPSILON / 8,
            max_iter=steps,
            num_random_init=1,
            batch_size=BATCH,
            verbose=False,
        )
        found = attack.generate(images, np.eye(CLASSES, dtype=np.float32)[labels])
        predicted = classifier.predict(found, batch_size=BATCH).argmax(1)
        return float((predicted == labels).mean())

    return {"art": run}


def foolbox(model: Any) -> dict[str, Contender]:
    import keras
    import numpy as np
    import tensorflow as tf
    from foolbox import TensorFlowModel
    from foolbox.attacks import LinfPGD

    classifier = TensorFlowModel(model, bounds=(0, 1), device="/CPU:0")

    def run(images: Any, labels: Any, steps: int, seed: int) -> float:
        keras.utils.set_random_seed(seed)
        pgd = LinfPGD(abs_stepsize=EPSILON / 8, steps=steps, random_start=True)
        fallen = []
        for start in range(0, len(images), BATCH):
            batch = slice(start, start + BATCH)
            inputs = tf.constant(images[batch]), tf.constant(labels[batch])
            fallen.append(pgd(classifier, *inputs, epsilons=EPSILON)[2].numpy())
        return float(1 - np.concatenate(fallen).mean())

    return {"foolbox": run}


def compiled(model: Any) -> Callable[..., Any]:
    """The model as both peers call it, with `training`, in one graph."""
    import tensorflow as tf

    function = tf.function(lambda images: model(images, training=False), reduce_retracing=True)
    return lambda images, training=False: function(images)


def memory(_: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    peaks = {}
    for count in (1000, 10_000):
        command = [sys.executable, __file__, "--worker", str(count), "--model", arguments.model]
        done = subprocess.run(
            [*command, "--models", str(arguments.models)],
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
        peaks[str(count)] = json.loads(done.stdout.splitlines()[-1])
    fewer, more = peaks.values()
    return {
        "attack": "PGD, 3 steps, every image through every step",
        "megabytes": peaks,
        # The images, their adversarial variants while the attack runs, and the copy it returns.
        "growth_over_images": (more["peak"] - fewer["peak"]) / (more["images"] - fewer["images"]),
    }


def peak(model: Any, count: int) -> dict[str, float]:
    """Megabytes: peak of the process, before the attack and after; size of the images."""
    import numpy as np

    import robustcls as rc
    from robustcls.attacks import PGD

    splits = rc.load("fashion_mnist_mini")
    parts = [part.float_images()[..., 0] for part in (splits.train, splits.test)]
    labels = np.concatenate([splits.train.labels, splits.test.labels])[:count]
    gray = np.concatenate(parts)[:count]
    images = np.zeros((len(gray), SIZE, SIZE, 3), np.float32)
    images[:, 2:-2, 2:-2] = gray[..., None]
    del parts, gray, splits
    PGD(steps=3)(model, images[:BATCH], labels[:BATCH], active_set=False)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    PGD(steps=3)(model, images, labels, active_set=False)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"before": before, "peak": after, "images": images.nbytes / 2**20, "count": count}


if __name__ == "__main__":
    main()
