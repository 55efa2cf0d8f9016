r"""One run of a minimum-norm attack beside PGD at ten radii, and beside Foolbox's attacks.

    python benchmarks/minimum_norm.py --out benchmarks/results/minimum_norm.json

`curves`: FMN's run of 100 steps gives the accuracy at every radius; PGD of 40 steps from a random
start attacks each of ten radii by itself, as an evaluation without a curve would. `seconds` are of
one call each, after calls that compile, on test images of the models of `robust_models.py`.

`peers`: FMN in each norm and DDN here and in Foolbox, on the same Keras model in one process, with
the same steps; the median distance and the share of images for which a point was found. Foolbox'
model is in a `tf.function`. Needs the extra `benchmarks`; `--no_peers` leaves it out.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from robust_models import Attacked, attacked_models

from robustcls.attacks import DDN, FMN, PGD
from robustcls.runs import versions, write_json

STEPS, PGD_STEPS = 100, 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    parser.add_argument("--models", type=Path, default=Path("runs/robust_models"))
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--only", nargs="*", default=["plain", "pgd", "trades", "pgd_l2"])
    parser.add_argument("--no_peers", action="store_true")
    arguments = parser.parse_args()
    result: dict[str, Any] = {
        "command": f"python benchmarks/minimum_norm.py --images {arguments.images}",
        "targets": {"points_above": 0.5, "share_of_time": 1 / 3},
        "curves": {},
        "peers": {},
    }
    for attacked in attacked_models(arguments.models, arguments.images, arguments.only):
        result["curves"][attacked.name] = curve(attacked)
        print(attacked.name, json.dumps(result["curves"][attacked.name]), flush=True)
        if not arguments.no_peers and attacked.name in ("pgd", "plain"):
            result["peers"][attacked.name] = peers(attacked)
            print(json.dumps(result["peers"][attacked.name], indent=2), flush=True)
    result["versions"] = versions()
    if arguments.out:
        write_json(arguments.out, result)


def curve(attacked: Attacked) -> dict[str, Any]:
    data = attacked.model, attacked.images, attacked.labels
    few = attacked.model, attacked.images[:2], attacked.labels[:2]
    radii = [float(radius) for radius in np.linspace(0.2, 2, 10) * attacked.epsilon]
    fmn = FMN(norm=attacked.norm, steps=STEPS)
    fmn.nearest(*few)
    PGD(norm=attacked.norm, steps=PGD_STEPS)(*few)
    begin = time.perf_counter()
    nearest = fmn.nearest(*data)
    one_run = time.perf_counter() - begin
    begin = time.perf_counter()
    by_pgd = [
        PGD(epsilon=radius, norm=attacked.norm, steps=PGD_STEPS)(*data).robust_accuracy
        for radius in radii
    ]
    ten_runs = time.perf_counter() - begin
    by_fmn = [nearest.robust_accuracy(radius) for radius in radii]
    return {
        "norm": attacked.norm,
        "radii": radii,
        "fmn": by_fmn,
        "pgd": by_pgd,
        "most_points_above": 100 * max(np.subtract(by_fmn, by_pgd)),
        "median_distance": nearest.median,
        "seconds": {"fmn": round(one_run, 2), "pgd": round(ten_runs, 2)},
        "share_of_time": round(one_run / ten_runs, 3),
    }


def peers(attacked: Attacked) -> dict[str, Any]:
    from foolbox import TensorFlowModel
    from foolbox import attacks as theirs

    function = tf.function(lambda images: attacked.model(images, training=False))
    network: Any = lambda images, training=False: function(images)  # noqa: E731
    bounded = TensorFlowModel(network, bounds=(0, 1), device="/CPU:0")
    kinds: dict[str, tuple[Any, Any]] = {
        "fmn_inf": (FMN(norm="inf", steps=STEPS), theirs.LInfFMNAttack(steps=STEPS)),
        "fmn_2": (FMN(norm="2", steps=STEPS), theirs.L2FMNAttack(steps=STEPS)),
        "fmn_1": (FMN(norm="1", steps=STEPS), theirs.L1FMNAttack(steps=STEPS)),
        "fmn_0": (FMN(norm="0", steps=STEPS), theirs.L0FMNAttack(steps=STEPS)),
        "ddn_2": (DDN(steps=STEPS), theirs.DDNAttack(steps=STEPS)),
    }
    right = attacked.model.predict(attacked.images, verbose=0).argmax(1) == attacked.labels
    images, labels = attacked.images[right], attacked.labels[right]

    def foolbox(attack: Any) -> np.ndarray:
        inputs = tf.constant(images), tf.constant(labels)
        points, _, fallen = attack(bounded, *inputs, epsilons=None)
        offsets = (points.numpy() - images).reshape(len(images), -1)
        return np.where(fallen.numpy(), np.linalg.norm(offsets, order, axis=1), np.inf)

    rows = {}
    for name, (own, other) in kinds.items():
        order = float(own.norm)
        own.nearest(attacked.model, images[:2], labels[:2])
        begin = time.perf_counter()
        found = own.nearest(attacked.model, images, labels).distances
        seconds = time.perf_counter() - begin
        begin = time.perf_counter()
        peer = foolbox(other)
        peer_seconds = time.perf_counter() - begin
        rows[name] = {
            "ours": row(found, seconds),
            "foolbox": row(peer, peer_seconds),
            "median_ours_over_theirs": float(np.median(found) / np.median(peer)),
            "times_faster": round(peer_seconds / seconds, 2),
        }
    return rows


def row(distances: np.ndarray, seconds: float) -> dict[str, float]:
    return {
        "median_distance": float(np.median(distances)),
        "found": float(np.isfinite(distances).mean()),
        "seconds": round(seconds, 2),
    }


if __name__ == "__main__":
    main()
