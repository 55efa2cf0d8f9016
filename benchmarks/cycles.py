r"""Long PGD on robust classifiers with and without ending runs that have come back.

    python benchmarks/cycles.py --out benchmarks/results/cycles.json

Test images are attacked by PGD of 200 steps from a random start, once as it is and once with every
run going to its last step, with steps of a fourth and a tenth of epsilon and of the default length,
an eightieth. `image_steps` counts the images that went through a gradient step, `seconds` are of
one call each, after a call that compiles. The adversarial images are compared bit by bit, at a
batch of 128; at a batch of one image, too, where no image shares its sums with others, for steps of
a tenth. Short steps run into no cycle within 200: nothing is spared then.

The models are those of `robust_models.py`, trained at the first call and kept in `--models`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from robust_models import Attacked, attacked_models

from robustcls.attacks import PGD
from robustcls.runs import versions, write_json

MODELS = ["pgd", "trades", "fashion_mnist_mini_linf_0.1_ibp"]


class LongPGD(PGD, abstract=True):
    """PGD whose runs all go to the end."""

    @property
    def repeats(self) -> bool:
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    parser.add_argument("--models", type=Path, default=Path("runs/robust_models"))
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    result: dict[str, Any] = {
        "command": f"python benchmarks/cycles.py --images {arguments.images} "
        f"--steps {arguments.steps}",
        "target_times_fewer_steps": 2.0,
        "models": {},
    }
    for attacked in attacked_models(arguments.models, arguments.images, MODELS):
        found = {
            f"steps of epsilon / {share}, batches of {size}": compare(
                attacked, arguments.steps, share, size
            )
            for share, size in ((4, 128), (10, 128), (80, 128), (10, 1))
        }
        result["models"][attacked.name] = {"epsilon": attacked.epsilon, **found}
        print(attacked.name, json.dumps(found, indent=2), flush=True)
        result["versions"] = versions()
        if arguments.out:
            write_json(arguments.out, result)


def compare(attacked: Attacked, steps: int, share: int, batch_size: int) -> dict[str, Any]:
    found, measured = [], []
    for kind in (PGD, LongPGD):
        attack = kind(epsilon=attacked.epsilon, steps=steps, step_size=attacked.epsilon / share)
        attack(attacked.model, attacked.images[:2], attacked.labels[:2], batch_size=batch_size)
        begin = time.perf_counter()
        result = attack(attacked.model, attacked.images, attacked.labels, batch_size=batch_size)
        seconds = round(time.perf_counter() - begin, 2)
        found.append(result)
        # A look at the image, and two passes for each step.
        taken = int((result.passes - 1).sum()) // 2
        measured.append(
            {
                "image_steps": taken,
                "seconds": seconds,
                "robust_accuracy": result.robust_accuracy,
            }
        )
    ended, long = found
    apart = np.abs(ended.adversarial - long.adversarial).max((1, 2, 3))
    return {
        "cycles_end_runs": measured[0],
        "to_the_end": measured[1],
        "times_fewer_steps": round(measured[1]["image_steps"] / measured[0]["image_steps"], 2),
        "same_images_fall": bool((ended.success == long.success).all()),
        "same_bits": bool((apart == 0).all()),
        "images_that_differ": int((apart > 0).sum()),
        "largest_difference": float(apart.max()),
    }


if __name__ == "__main__":
    main()
