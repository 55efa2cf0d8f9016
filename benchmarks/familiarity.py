"""Familiarity of the quickstart's models: far and near sets, false alarms, under attack, cost.

    robustcls train --config configs/quickstart.yaml --out runs/quickstart
    python benchmarks/familiarity.py --run runs/quickstart --out /tmp/familiarity

Far sets, made 28x28 gray: MNIST's test digits, UCI's digits (scikit-learn), tiles of three textures
and of photographs (scikit-image 0.26.0 and scikit-learn; pip downloads the wheel once), and noise.
Near sets: for each seed two of the ten classes are drawn and left out of a training by
configs/quickstart.yaml; their test images are the near set. Every method as it comes: no
unfamiliar image chose anything. Known images: the 2,000 test images.

Each part is in benchmarks/results/familiarity.json as soon as it is measured, and is not measured
again; familiarity.md is its table.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import numpy as np
import tensorflow as tf
from PIL import Image
from small_set_images import Images

import robustcls as rc
from robustcls.familiarity.fitting import gather
from robustcls.familiarity.registry import METHODS
from robustcls.runs import Run, read_json, write_json, write_text

ROOT = Path(__file__).parents[1]
KEPT = "vim"
TEXTURES = ("brick.png", "grass.png", "gravel.png")
HELD_OUT = 2
LIMIT = 1000
ATTACKED = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="of configs/quickstart.yaml")
    parser.add_argument("--out", type=Path, required=True, help="folder for the wheel and runs")
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("results"))
    parser.add_argument("--seeds", type=int, default=3, help="of the classes that are left out")
    parser.add_argument("--epochs", type=int, default=3, help="of the trainings without them")
    parser.add_argument("--models", nargs="*", default=["base", "adversarial"])
    arguments = parser.parse_args()
    file = arguments.results / "familiarity.json"
    found: dict[str, Any] = read_json(file) if file.is_file() else {}
    splits = rc.load("fashion_mnist_mini")
    trained = [name for name in Run(arguments.run).trained if name in arguments.models]
    jobs: dict[str, Any] = {
        f"far {name}": lambda name=name: far(arguments, splits, name) for name in trained
    }
    for seed in range(arguments.seeds):
        for name in arguments.models:
            key = f"near {name}, {arguments.epochs} epochs, seed {seed}"
            jobs[key] = lambda name=name, seed=seed: near(arguments, splits, name, seed)
    for key, measure in jobs.items():
        if key not in found:
            start = time.perf_counter()
            found[key] = {**measure(), "seconds": round(time.perf_counter() - start)}
            write_json(file, found)
            print(key, found[key]["seconds"], "s", flush=True)
        write_text(arguments.results / "familiarity.md", tables(found))


def far(arguments: argparse.Namespace, splits: rc.Splits, name: str) -> dict[str, Any]:
    """One model of the run against the far sets; the served cost; the sets under attack."""
    model = rc.load_classifier(arguments.run / name / "model.keras")
    sets = far_sets(arguments.out)
    attack = rc.attacks.PGD(epsilon=8 / 255, steps=20)
    found = measured(model, splits, far=sets, attack=attack, attack_limit=ATTACKED)
    return {**found, "cost": served_cost(model, splits, arguments.out / f"served_{name}")}


def near(arguments: argparse.Namespace, splits: rc.Splits, name: str, seed: int) -> dict[str, Any]:
    """A model that was trained without some classes against these."""
    left_out = np.sort(np.random.default_rng(seed).permutation(splits.num_classes)[:HELD_OUT])
    run = arguments.out / f"near-{seed}-{arguments.epochs}"
    folder = write_known(splits, left_out, arguments.out / f"known-{seed}")
    train(run, folder, arguments.epochs, seed, arguments.models)
    known = rc.load(folder)
    others = splits.test.take(np.isin(splits.test.labels, left_out))
    model = rc.load_classifier(run / name / "model.keras")
    names = [splits.class_names[label] for label in left_out]
    return {**measured(model, known, near={" and ".join(names): others}), "left_out": names}


def measured(model: Any, splits: rc.Splits, **sets: Any) -> dict[str, Any]:
    material = gather(model, splits, false_alarm_rate=0.05)
    fitted = [material.fit(method) for method in (KEPT, *(m for m in METHODS if m != KEPT))]
    return rc.familiarity.evaluate(fitted, splits.test, **sets).to_json()


def far_sets(out: Path) -> dict[str, np.ndarray]:
    """Images float32 [n, 28, 28, 1] in [0, 1] by the name of the set."""
    generator = np.random.default_rng(0)
    images = Images(out)
    digits, _ = images._digits(28)
    textures = [tile for file in TEXTURES for tile in tiles(images._photograph(file))]
    photographs = [
        tile
        for file in ("chelsea.png", "astronaut.png", "coffee.png", "rocket.jpg", "china.jpg")
        for tile in tiles(images._photograph(file))
    ]
    mnist = rc.load("mnist").test
    found = {
        "MNIST": mnist.float_images()[:LIMIT],
        "UCI digits": as_floats(digits[:LIMIT]),
        "textures": as_floats(textures),
        "photographs": as_floats(photographs),
        "noise": generator.uniform(size=(LIMIT, 28, 28, 1)).astype(np.float32),
    }
    return {name: images[:LIMIT] for name, images in found.items()}


def tiles(picture: np.ndarray, side: int = 56) -> list[np.ndarray]:
    gray = Image.fromarray(picture).convert("L")
    return [
        np.asarray(gray.crop((left, top, left + side, top + side)).resize((28, 28)))
        for top in range(0, gray.height - side + 1, side)
        for left in range(0, gray.width - side + 1, side)
    ]


def as_floats(pictures: list[np.ndarray]) -> np.ndarray:
    return np.stack(pictures)[..., None].astype(np.float32) / np.float32(255)


def write_known(splits: rc.Splits, left_out: np.ndarray, folder: Path) -> Path:
    """The images of the other classes as an image folder, with their splits."""
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    if not (folder.parent / f"{folder.name}.done").is_file():
        for part, split in parts.items():
            for image, label, key in zip(split.images, split.labels, split.ids, strict=True):
                if label not in left_out:
                    name = splits.class_names[label].replace("/", " or ")
                    place = folder / part / name
                    place.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(image[..., 0]).save(place / f"{key.replace('/', '-')}.png")
        (folder.parent / f"{folder.name}.done").touch()
    return folder


def train(run: Path, data: Path, epochs: int, seed: int, models: list[str]) -> None:
    from robustcls.cli import main as robustcls

    settings = ["--config", str(ROOT / "configs/quickstart.yaml"), "--data", str(data)]
    settings += ["--epochs", str(epochs), "--seed", str(seed), "--models", *models]
    robustcls(["train", *settings, "--out", str(run), "--resume"])


def served_cost(model: Any, splits: rc.Splits, out: Path) -> dict[str, float]:
    """Seconds of 32 images through an export with familiarity over those without, turn by turn."""
    calls = {}
    for method in (None, KEPT, "knn"):
        fitted = None if method is None else rc.familiarity.fit(model, splits, method=method)
        folder = rc.export(
            model, out / str(method), class_names=splits.class_names, familiarity=fitted
        )
        calls[str(method)] = tf.saved_model.load(str(folder)).signatures["serving_default"]
    images = tf.constant(splits.test.take(slice(32)).float_images())
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(60):
        for name, call in calls.items():
            start = time.process_time()
            call(images=images)
            times[name].append(time.process_time() - start)
    plain = statistics.median(times.pop("None")[10:])
    return {name: statistics.median(taken[10:]) / plain - 1 for name, taken in times.items()}


def tables(found: dict[str, Any]) -> str:
    lines = ["# Familiarity of the quickstart's models", ""]
    for key, part in found.items():
        kept = {r["method"] for r in part["results"]}
        sets = list(dict.fromkeys(r["name"] for r in part["results"]))
        words = f", without {' and '.join(part['left_out'])}" if "left_out" in part else ""
        lines += [
            f"## {key}{words}",
            "",
            f"AUROC % over {part['known']} known images; accuracy {100 * part['accuracy']:.1f} %.",
            "",
        ]
        lines.append("| method | " + " | ".join(sets) + " | mean | mean FPR95 % | false alarms % |")
        lines.append("|---" * (len(sets) + 4) + "|")
        for method in [name for name in METHODS if name in kept]:
            own = {r["name"]: r for r in part["results"] if r["method"] == method}
            values = [100 * own[name]["auroc"]["value"] for name in sets]
            rates = [100 * own[name]["fpr95"]["value"] for name in sets]
            alarms = part["false_alarms"][method]
            low, high = 100 * alarms["low"], 100 * alarms["high"]
            cells = [f"{value:.1f}" for value in values]
            cells += [f"**{statistics.fmean(values):.1f}**", f"{statistics.fmean(rates):.1f}"]
            cells.append(f"{100 * alarms['value']:.1f} ({low:.1f} – {high:.1f})")
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
        if part.get("attack"):
            under = [r for r in part["results"] if r["attacked"]]
            words = ", ".join(
                f"{r['name']} {100 * r['refused']['value']:.0f} → "
                f"{100 * r['attacked']['value']:.0f}"
                for r in under
            )
            lines += [
                "",
                f"Refused by {under[0]['method']} before and under {part['attack']}, %: {words}.",
            ]
        if "cost" in part:
            words = ", ".join(f"{name} {100 * more:+.1f} %" for name, more in part["cost"].items())
            lines += ["", f"Processor time of a served batch of 32 over that without: {words}."]
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
