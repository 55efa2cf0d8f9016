r"""The fast suite beside full AutoAttack: robust accuracy, passes of the model, time.

    python benchmarks/verdict.py --images 200 --out benchmarks/results/verdict.json

Both attack the same test images of the same models, those of `robust_models.py`, and, where
`--run` names one, the base model of a run of the quick start. `passes` are images that went
forwards or backwards through the model, counted apart; `seconds` are of one call each, after a
call on two images that compiles. The settings of the suite were chosen on other test images of
three of the models than those that are attacked here.

An image that falls at once costs either suite as little, so ten times fewer passes is a matter of
those that stand: `passes_of_standing` counts the images that stand after both.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from robust_models import Attacked, attacked_models

import robustcls as rc
from robustcls.attacks import Attack, AttackResult, AutoAttack, Fast
from robustcls.runs import read_json, versions, write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    parser.add_argument("--models", type=Path, default=Path("runs/robust_models"))
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--only", nargs="*", help="names of models; all by default")
    parser.add_argument("--run", type=Path, help="a run of the quick start")
    arguments = parser.parse_args()
    result: dict[str, Any] = {"models": {}}
    if arguments.out and arguments.out.is_file():
        result["models"] = read_json(arguments.out)["models"]
    command = f"python benchmarks/verdict.py --images {arguments.images}"
    for attacked in chosen(arguments):
        if attacked.name not in result["models"]:
            result["models"][attacked.name] = row = compare(attacked)
            print(attacked.name, json.dumps(row), flush=True)
        whole = {"command": command, "targets": TARGETS} | result | {"versions": versions()}
        if arguments.out:
            write_json(arguments.out, whole | {"summary": summary(result["models"])})
    print(json.dumps(summary(result["models"]), indent=2))


TARGETS = {"points_above": 0.2, "times_fewer_passes": 10.0, "times_faster": 6.0}


def chosen(arguments: argparse.Namespace) -> Iterator[Attacked]:
    yield from attacked_models(arguments.models, arguments.images, arguments.only)
    if arguments.run:
        model = rc.load_classifier(arguments.run / "base" / "model.keras")
        test = rc.load("fashion_mnist_mini").test
        images, labels = test.float_images(), test.labels
        count = arguments.images
        yield Attacked("quickstart", model, images[:count], labels[:count], 8 / 255, "inf")


def compare(attacked: Attacked) -> dict[str, Any]:
    ball = {"epsilon": attacked.epsilon, "norm": attacked.norm}
    full, full_seconds = timed(AutoAttack(**ball), attacked)
    fast, fast_seconds = timed(Fast(**ball), attacked)
    standing = ~full.success & ~fast.success
    return {
        "epsilon": attacked.epsilon,
        "norm": attacked.norm,
        "images": len(attacked.images),
        "robust_accuracy": {"full": full.robust_accuracy, "fast": fast.robust_accuracy},
        "points_above": round(100 * (fast.robust_accuracy - full.robust_accuracy), 3),
        "passes": {"full": passes(full), "fast": passes(fast)},
        "times_fewer_passes": round(passes(full) / passes(fast), 2),
        "passes_of_standing": {"full": passes(full, standing), "fast": passes(fast, standing)},
        "seconds": {"full": round(full_seconds, 2), "fast": round(fast_seconds, 2)},
        "times_faster": round(full_seconds / fast_seconds, 2),
    }


def timed(attack: Attack, attacked: Attacked) -> tuple[AttackResult, float]:
    attack(attacked.model, attacked.images[:2], attacked.labels[:2])
    begin = time.perf_counter()
    result = attack(attacked.model, attacked.images, attacked.labels)
    return result, time.perf_counter() - begin


def passes(result: AttackResult, chosen: np.ndarray | slice = slice(None)) -> int:
    return 0 if result.passes is None else int(result.passes[chosen].sum())


def summary(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        "models": len(rows),
        "most_points_above": max(row["points_above"] for row in rows.values()),
        "fewest_times_fewer_passes": min(row["times_fewer_passes"] for row in rows.values()),
        "fewest_times_faster": min(row["times_faster"] for row in rows.values()),
    }


if __name__ == "__main__":
    main()
