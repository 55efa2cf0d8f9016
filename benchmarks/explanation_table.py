"""Methods by measures on the models of a run: python benchmarks/explanation_table.py RUN.

Twelve methods and eight measures with their intervals on 200 test pictures, for each model of the
run, each in a process of its own with its share of the cores. Writes explanation_table.json
(seconds, peak memory) and explanation_table_MODEL.md and .csv into benchmarks/results.
`--pictures N` only says what N take.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import robustcls as rc
from robustcls.explanation import Explainer, QualityTable, quality_table
from robustcls.runs import Run, versions, write_json

RESULTS = Path(__file__).parent / "results"
PICTURES = 200
METHODS = (
    "gradients",
    "smoothgrad",
    "vargrad",
    "integrated_gradients",
    "gradient_times_input",
    "guided_backpropagation",
    "grad_cam",
    "grad_cam_plus_plus",
    "layer_cam",
    "hires_cam",
    "occlusion",
    "kernel_shap",
)
SETTINGS = {"batch_size": 64, "masks": 128, "window": 7}
MEASURES = (
    "gain",
    "deletion",
    "insertion",
    "mu_fidelity",
    "infidelity",
    "sparseness",
    "complexity",
    "randomization",
)


def explained(folder: str, name: str, pictures: int) -> tuple[QualityTable, dict[str, float]]:
    """The table of one model, and what it took."""
    start, peaks, done = time.perf_counter(), [], threading.Event()

    def watch() -> None:
        while not done.wait(1):
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        table = _table(Run(folder), name, pictures)
    finally:
        done.set()
        watcher.join()
    used = resource.getrusage(resource.RUSAGE_SELF)
    return table, {
        "seconds": time.perf_counter() - start,
        "processor_seconds": used.ru_utime + used.ru_stime,
        "peak_mb_at_half_time": peaks[len(peaks) // 2],
        "peak_mb": used.ru_maxrss / 1024,
    }


def _table(run: Run, name: str, pictures: int) -> QualityTable:
    test = rc.load(run.config["train"]["data"]["name"]).test
    chosen = np.random.default_rng(0).permutation(len(test))[:pictures]
    images = test.take(chosen).float_images()
    explainer = Explainer(rc.load_classifier(run.folder(name) / "model.keras"), **SETTINGS)
    explainer.prepare(images)
    classes = explainer.predict(images).argmax(-1)
    return quality_table(explainer, METHODS, images, classes, measures=MEASURES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run")
    parser.add_argument("--pictures", type=int, default=PICTURES)
    arguments = parser.parse_args()
    start, models = time.perf_counter(), Run(arguments.run).trained
    processes = min(len(models), os.cpu_count() or 1)
    threads = (os.cpu_count() or 1) // processes
    # The processes read it as they start TensorFlow.
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(threads)
    took: dict[str, Any] = {}
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        given = [(arguments.run, name, arguments.pictures) for name in models]
        for name, (table, used) in zip(
            models, pool.map(explained, *zip(*given, strict=True)), strict=True
        ):
            took[name] = {key: round(value, 1) for key, value in used.items()}
            print(name, took[name])
            print(table.to_markdown(), flush=True)
            if arguments.pictures == PICTURES:
                table.save(RESULTS, f"explanation_table_{name}")
    seconds = time.perf_counter() - start
    print(f"{len(models)} models: {seconds:.0f} s")
    if arguments.pictures != PICTURES:
        return
    write_json(
        RESULTS / "explanation_table.json",
        {
            "command": "python benchmarks/explanation_table.py RUN",
            "date": time.strftime("%Y-%m-%d"),
            "cores": os.cpu_count(),
            "load_average": os.getloadavg()[0],
            "versions": versions(),
            "pictures": PICTURES,
            "settings": SETTINGS,
            "methods": METHODS,
            "measures": MEASURES,
            "processes": processes,
            "threads": threads,
            "seconds": round(seconds, 1),
            "models": took,
        },
    )


if __name__ == "__main__":
    main()
