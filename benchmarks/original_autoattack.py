r"""Our AutoAttack and fast suite beside the authors' own AutoAttack on the same weights.

    python benchmarks/original_autoattack.py --out benchmarks/results/original_autoattack.json

The networks of `robust_models.py` are put into PyTorch with their weights; `logits_differ_by` says
how exactly. All attack the same test images: theirs is the standard version in batches of 250, ours
is `AutoAttack` and `Fast` with their defaults. In the L1 ball the network of L2 is attacked.

Needs `torch` and the package of github.com/fra31/auto-attack on the path, which no index carries.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from autoattack import AutoAttack as Original
from in_pytorch import in_pytorch, to_torch
from robust_models import BALLS, Attacked, attacked_models

from robustcls.attacks import AutoAttack, Fast
from robustcls.runs import versions, write_json

NAMES = {"inf": "Linf", "2": "L2", "1": "L1"}
L1_RADIUS = 12.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    parser.add_argument("--models", type=Path, default=Path("runs/robust_models"))
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--only", nargs="*", default=["pgd", "pgd_l2"])
    arguments = parser.parse_args()
    result: dict[str, Any] = {
        "command": f"python benchmarks/original_autoattack.py --images {arguments.images}",
        "target_points": 0.5,
        "models": {},
    }
    for attacked in attacked_models(arguments.models, arguments.images, arguments.only):
        if attacked.name not in BALLS:
            continue
        balls = [(attacked.norm, attacked.epsilon)]
        if attacked.norm == "2":
            balls.append(("1", L1_RADIUS))
        for norm, epsilon in balls:
            found = compare(attacked, norm, epsilon)
            result["models"][f"{attacked.name}, L{norm}"] = found
            print(attacked.name, norm, json.dumps(found), flush=True)
            result["versions"] = versions() | {"torch": torch.__version__}
            if arguments.out:
                write_json(arguments.out, result)


def compare(attacked: Attacked, norm: str, epsilon: float) -> dict[str, Any]:
    images, labels = attacked.images, attacked.labels
    twin = in_pytorch(attacked.model)
    with torch.no_grad():
        theirs = twin(to_torch(images)).numpy()
    ours = attacked.model.predict(images, verbose=0)
    begin = time.perf_counter()
    original = Original(twin, norm=NAMES[norm], eps=epsilon, device="cpu", seed=0, verbose=False)
    points = original.run_standard_evaluation(to_torch(images), torch.from_numpy(labels), bs=250)
    with torch.no_grad():
        left = float((twin(points).argmax(1).numpy() == labels).mean())
    found: dict[str, Any] = {
        "epsilon": epsilon,
        "images": len(images),
        "logits_differ_by": float(abs(theirs - ours).max()),
        "original": {"robust_accuracy": left, "seconds": round(time.perf_counter() - begin, 1)},
    }
    kinds: list[Any] = [AutoAttack] if norm == "1" else [AutoAttack, Fast]
    for kind in kinds:
        begin = time.perf_counter()
        result = kind(epsilon=epsilon, norm=norm)(attacked.model, images, labels)
        found[kind.registry_name] = {
            "robust_accuracy": result.robust_accuracy,
            "points_above": round(100 * (result.robust_accuracy - left), 3),
            "seconds": round(time.perf_counter() - begin, 1),
        }
    return found


if __name__ == "__main__":
    main()
