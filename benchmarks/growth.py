"""How a training grows with its workers: a model fitted to what was measured, and its arithmetic.

    python benchmarks/growth.py [--measured benchmarks/results/workers.csv]
                                [--out benchmarks/results/growth.csv]

A step of W > 1 workers takes the slowest worker's own part and one exchange of n bytes in a ring:

    step = own + exchange
    own = (base + n · seconds a byte) · max(1, W / cores)      + what a worker sleeps
    exchange = 2 (W - 1) · latency + 2 (W - 1) / W · n / bandwidth

Over a loopback, limited or not, the workers share one bandwidth and the cores of one machine; over
a network each has its own. All four numbers are fitted to the steps of two workers over the plain
loopback, by least squares of relative errors. The steps of four workers, those over a limited
bandwidth (whose rate is the limit's) and those with a worker that sleeps are predicted, and stand
beside what was measured: they are the check.

`arithmetic` then asks of 64 GPUs and 14 million pictures, each GPU on a machine of its own. Its
figures that nobody measured here are in `ASSUMED`.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).with_name("results")
ASSUMED = {
    "gradients, bytes": 25.6e6 * 4,  # a ResNet-50 in float32
    "pictures a second of a GPU": 1000.0,
    "pictures of a GPU's step": 256,
    "pictures": 14_000_000,
    "cores of a machine": 16,
    "latency of a message, seconds": 50e-6,
    "links, bytes a second": (1.25e9, 12.5e9),
}
WORKERS = (1, 2, 4, 8, 16, 32, 64)
# Of the machine that was measured.
CORES = 2
COLUMNS = ("part", "workers", "megabytes", "limit_mbit", "delay_s", "name", "value", "measured")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measured", type=Path, default=RESULTS / "workers.csv")
    parser.add_argument("--out", type=Path, help="CSV")
    arguments = parser.parse_args()
    with arguments.measured.open() as file:
        measured = list(csv.DictReader(file))
    points = points_of([row for row in measured if row["part"] == "steps"])
    model = fit(points)
    rows = [{"part": "fitted", "name": name, "value": value} for name, value in model.items()]
    rows += [check(model, point) for point in points if point["workers"] > 1]
    rows += arithmetic(float(next(row["per_s"] for row in measured if row["part"] == "input")))
    with open(arguments.out, "w") if arguments.out else sys.stdout as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            numbers = {k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()}
            writer.writerow(numbers)


def points_of(rows: list[dict[str, str]]) -> list[dict[str, float]]:
    """One point for each setting: the slowest worker's own part, the step and the exchange."""
    names = ("workers", "megabytes", "limit_mbit", "delay_s")
    found: dict[tuple[float, ...], list[dict[str, str]]] = {}
    for row in rows:
        found.setdefault(tuple(float(row[name]) for name in names), []).append(row)
    return [
        dict(zip(names, key, strict=True))
        | {
            "own_s": max(float(row["own_s"]) for row in of),
            "step_s": float(of[0]["step_s"]),
            "exchange_s": float(of[0]["exchange_s"]),
        }
        for key, of in found.items()
    ]


def fit(points: list[dict[str, float]]) -> dict[str, float]:
    two = [p for p in points if not p["limit_mbit"] and not p["delay_s"] and p["workers"] == 2]
    own = np.array([[1, p["megabytes"] * 1e6] for p in two])
    base, byte = _solved(own, [p["own_s"] for p in two])
    # Of the shared bandwidth each of two has half.
    ring = np.array([[2.0, 2 * p["megabytes"] * 1e6] for p in two])
    latency, per_byte = _solved(ring, [p["exchange_s"] for p in two])
    return {
        "base, s": base,
        "a byte of weights, s": byte,
        "latency, s": latency,
        "bandwidth of all, bytes/s": 1 / per_byte,
    }


def _solved(matrix: np.ndarray, values: list[float]) -> list[float]:
    """Least squares of relative errors, without negative times."""
    from scipy.optimize import nnls

    scale = 1 / np.array(values)
    solution, _ = nnls(matrix * scale[:, None], np.ones(len(values)))
    return [max(float(value), 1e-15) for value in solution]


def exchange(workers: float, size: float, latency: float, bandwidth: float) -> float:
    ring = 2 * (workers - 1)
    return ring * latency + ring / workers * size / bandwidth


def check(model: dict[str, float], point: dict[str, float]) -> dict[str, Any]:
    size, workers = point["megabytes"] * 1e6, point["workers"]
    own = model["base, s"] + size * model["a byte of weights, s"]
    own = own * max(1, workers / CORES) + point["delay_s"]
    bandwidth = model["bandwidth of all, bytes/s"]
    if point["limit_mbit"]:
        bandwidth = min(bandwidth, point["limit_mbit"] * 1e6 / 8)
    step = own + exchange(workers, size, model["latency, s"], bandwidth / workers)
    names = ("workers", "megabytes", "limit_mbit", "delay_s")
    row = {name: point[name] for name in names} | {"part": "step", "name": "seconds"}
    return row | {"value": step, "measured": point["step_s"]}


def arithmetic(decoded: float) -> list[dict[str, Any]]:
    """Seconds of a step and of an epoch, part by part.

    Args:
        decoded: pictures of 224 pixels a second that a core decodes, measured.
    """
    rows: list[dict[str, Any]] = []

    def add(workers: int, name: str, value: float) -> None:
        rows.append({"part": "arithmetic", "workers": workers, "name": name, "value": value})

    size, own = ASSUMED["gradients, bytes"], ASSUMED["pictures of a GPU's step"]
    compute = own / ASSUMED["pictures a second of a GPU"]
    machine = decoded * ASSUMED["cores of a machine"]
    for workers in WORKERS:
        add(workers, "forward and backward, s", compute)
        add(workers, "input of the worker's rows, s", own / machine)
        add(workers, "input of the whole batch, s", own * workers / machine)
        steps = ASSUMED["pictures"] / (own * workers)
        for link in ASSUMED["links, bytes a second"]:
            seconds = exchange(workers, size, ASSUMED["latency of a message, seconds"], link)
            add(workers, f"exchange at {8 * link / 1e9:g} Gbit/s, s", seconds)
            for kind, count in (("rows", 1), ("batch", workers)):
                # Input is made while the step before runs.
                step = max(compute + seconds, own * count / machine)
                name = f"epoch at {8 * link / 1e9:g} Gbit/s, input by {kind}, hours"
                add(workers, name, steps * step / 3600)
    pictures = ASSUMED["pictures"]
    add(1, "opening or fingerprint: all pictures decoded, hours", pictures / machine / 3600)
    add(1, "names, labels and the epoch's order, GB", pictures * (200 + 2 * 8) / 1e9)
    return rows


if __name__ == "__main__":
    main()
