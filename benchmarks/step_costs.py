"""What one training step of every objective costs, as a multiple of a plain step.

    python benchmarks/step_costs.py [--out benchmarks/results/step_costs]

Contenders take turns in one process, a few steps each, for some rounds; each figure is the median
over rounds of a contender's step by the plain step of the same round, so that what else the machine
does falls on both. Networks: MobileNetV2 and a small CNN, float32 [128, 32, 32, 3], SGD with
momentum. Beside it stands what counting passes gives: a forward pass is 1, and the backward pass
1 for the images and 1 for the weights, so that plain training is 3 and a step of an attack 2. About
fifteen minutes on two free cores. Writes .csv and .md.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import statistics
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
SIZE, CLASSES, BATCH = 32, 10, 128

# Objective, settings, passes of a step, passes as they are counted.
CONTENDERS: tuple[tuple[str, dict[str, Any], float | None, str], ...] = (
    ("plain", {}, 3, "3"),
    ("adversarial", {}, 6, "3 + 3: the first backward pass gives the neighbours"),
    ("fgsm_rs", {}, 5, "2 + 3"),
    ("n_fgsm", {}, 5, "2 + 3"),
    ("pgd", {"steps": 7}, 17, "7 * 2 + 3"),
    ("free", {"replays": 8}, 24, "8 * 3: eight steps of the weights"),
    ("trades", {"steps": 10}, 27, "1 + 10 * 2 + 6"),
    ("mart", {"steps": 10}, 26, "10 * 2 + 6"),
    ("noise", {}, 3, "3"),
    ("augmix", {}, 9, "3 * 3, without the augmentations"),
    ("ibp", {"warmup_epochs": 0, "ramp_epochs": 0}, 9, "3 * 3: image, center, radius"),
    ("crown_ibp", {"warmup_epochs": 0, "ramp_epochs": 1e6}, None, "ibp and a pass for each class"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/step_costs"))
    parser.add_argument("--rounds", type=int, default=7, help="turns each contender takes")
    parser.add_argument("--steps", type=int, default=2, help="steps of a turn")
    given = parser.parse_args()
    rows = []
    for network in ("MobileNetV2", "small CNN"):
        ratios = measure(network, given.rounds, given.steps)
        for name, settings, passes, words in CONTENDERS:
            found = sorted(ratios[name])
            row = {
                "network": network,
                "objective": name,
                "settings": " ".join(f"{key}={value:g}" for key, value in settings.items()),
                "times_plain": f"{statistics.median(found):.2f}",
                "lowest": f"{found[0]:.2f}",
                "highest": f"{found[-1]:.2f}",
                "counted": "" if passes is None else f"{passes / 3:.2f}",
                "passes": words,
            }
            rows.append(row)
            print(*row.values(), sep="\t", flush=True)
    write(given.out, rows, given)


def measure(network: str, rounds: int, steps: int) -> dict[str, list[float]]:
    """Seconds of a contender's step by seconds of the plain one, for each round."""
    import numpy as np

    generator = np.random.default_rng(0)
    images = generator.uniform(size=(BATCH, SIZE, SIZE, 3)).astype(np.float32)
    labels = generator.integers(0, CLASSES, BATCH)
    models = {name: trainer(network, name, settings) for name, settings, _, _ in CONTENDERS}
    for model in models.values():
        # Traces, and warms up.
        model.train_on_batch(images, labels)
        model.train_on_batch(images, labels)
    ratios: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds):
        seconds = {}
        for name, model in models.items():
            begin = time.perf_counter()
            for _ in range(steps):
                model.train_on_batch(images, labels)
            seconds[name] = time.perf_counter() - begin
        for name, taken in seconds.items():
            ratios[name].append(taken / seconds["plain"])
    return ratios


def trainer(network: str, name: str, settings: dict[str, Any]) -> Any:
    import keras

    import robustcls as rc
    from robustcls.training.objectives import OBJECTIVES

    model: Any = build(network)
    if name == "adversarial":
        model = rc.AdversarialRegularization(model)
    elif name != "plain":
        model = rc.RobustTrainer(model, OBJECTIVES[name](**settings))
    model.compile(
        keras.optimizers.SGD(1e-3, momentum=0.9, nesterov=True),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def build(network: str) -> Any:
    import keras

    from robustcls import build_classifier

    if network == "MobileNetV2":
        return build_classifier(
            "mobilenet_v2", input_shape=(SIZE, SIZE, 3), num_classes=CLASSES, output_stride=32
        )
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            layers.Conv2D(32, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2D(64, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(CLASSES),
        ]
    )


def write(out: Path, rows: list[dict[str, str]], given: argparse.Namespace) -> None:
    from robustcls.runs import versions, write_text

    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(out.with_suffix(".csv"), text.getvalue())
    found = versions()
    lines = [
        "# What a step of each objective costs",
        "",
        f"`python benchmarks/step_costs.py --rounds {given.rounds} --steps {given.steps}`, "
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, TensorFlow {found['tensorflow']}, "
        f"Keras {found['keras']}. Multiples of a plain step of the same round: median, and lowest "
        "to highest round in brackets. *Counted* is what the numbers of passes give; plain is 3.",
        "",
        "| objective | MobileNetV2 | small CNN | counted | passes |",
        "|---|---|---|---|---|",
    ]
    for name, _, _, words in CONTENDERS:
        cells = {row["network"]: row for row in rows if row["objective"] == name}
        one = next(iter(cells.values()))
        figures = [
            f"{cell['times_plain']} [{cell['lowest']}, {cell['highest']}]"
            for cell in cells.values()
        ]
        label = f"`{name}` {one['settings']}".strip()
        lines.append(f"| {label} | {' | '.join(figures)} | {one['counted'] or '–'} | {words} |")
    write_text(out.with_suffix(".md"), "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
