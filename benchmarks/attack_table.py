r"""What each attack leaves of several models, and for how many passes: which one to take.

    python benchmarks/attack_table.py --out benchmarks/results/attack_table.json

All attack the same test images of the models of `robust_models.py`, within one ball a model, with
their default settings but for those named. A pass is an image that goes forwards or backwards
through the model. Beside the JSON file a table in Markdown is written.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from robust_models import attacked_models

from robustcls.attacks import APGD, FAB, FGSM, FMN, PGD, Attack, AutoAttack, Fast, Square
from robustcls.runs import read_json, versions, write_json, write_text

MODELS = ["plain", "fgsm", "pgd", "trades", "mart", "fashion_mnist_mini_linf_0.1_ibp"]


def attacks_of(ball: dict[str, Any]) -> dict[str, Attack]:
    return {
        "FGSM": FGSM(**ball),
        "PGD, 20 steps": PGD(**ball),
        "PGD, 100 steps": PGD(steps=100, **ball),
        "PGD, 20 steps, 5 starts": PGD(restarts=5, **ball),
        "APGD, cross-entropy": APGD(**ball),
        "APGD, ratio, 3 targets": APGD(loss="dlr", target_classes=3, **ball),
        "FMN, 100 steps": FMN(**ball),
        "FAB, 3 targets": FAB(target_classes=3, **ball),
        "Square, 1000 queries": Square(queries=1000, **ball),
        "Fast": Fast(**ball),
        "AutoAttack": AutoAttack(**ball),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/attack_table.json"))
    parser.add_argument("--models", type=Path, default=Path("runs/robust_models"))
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--only", nargs="*", default=MODELS)
    arguments = parser.parse_args()
    rows: dict[str, dict[str, Any]] = {}
    if arguments.out.is_file():
        rows = read_json(arguments.out)["models"]
    command = f"python benchmarks/attack_table.py --images {arguments.images}"
    for attacked in attacked_models(arguments.models, arguments.images, arguments.only):
        known = rows.setdefault(attacked.name, {})
        for name, attack in attacks_of(
            {"epsilon": attacked.epsilon, "norm": attacked.norm}
        ).items():
            if name in known:
                continue
            begin = time.perf_counter()
            result = attack(attacked.model, attacked.images, attacked.labels)
            passes = 0.0 if result.passes is None else float(result.passes.mean())
            known[name] = {
                "robust_accuracy": result.robust_accuracy,
                "passes_an_image": round(passes, 1),
                "seconds": round(time.perf_counter() - begin, 2),
            }
            print(attacked.name, name, known[name], flush=True)
            whole = {"command": command, "models": rows, "versions": versions()}
            write_json(arguments.out, whole)
    write_text(arguments.out.with_suffix(".md"), table(rows, arguments.images))


def table(rows: dict[str, dict[str, Any]], images: int) -> str:
    names = list(rows)
    attacks = list(rows[names[0]])
    lines = [
        f"Robust accuracy in % of {images} test images, and passes of the model an image.",
        "",
        f"| attack | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
    ]
    for attack in attacks:
        cells = [
            f"{100 * rows[name][attack]['robust_accuracy']:.1f} "
            f"({rows[name][attack]['passes_an_image']:,.0f})"
            for name in names
        ]
        lines.append(f"| {attack} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
