"""Methods by measures on the models of a run: python benchmarks/explanation_table.py RUN.

Twelve methods and eight measures with their intervals on 200 test pictures, for each model of the
run. Writes explanation_table.json (seconds, peak memory) and explanation_table_MODEL.md and .csv
into benchmarks/results. `--pictures N` only says what N take, `--profile FILE` also writes where
time goes.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import resource
import time
from pathlib import Path

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


def explained(run: Run, name: str, pictures: int) -> QualityTable:
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
    parser.add_argument("--profile", help="a file for cProfile's figures")
    parser.add_argument("--pictures", type=int, default=PICTURES)
    arguments = parser.parse_args()
    run = Run(arguments.run)
    profile = cProfile.Profile() if arguments.profile else None
    seconds, processor = {}, {}
    for name in run.trained:
        start, busy = time.perf_counter(), time.process_time()
        if profile:
            profile.enable()
        table = explained(run, name, arguments.pictures)
        if profile:
            profile.disable()
            profile.dump_stats(arguments.profile)
        seconds[name] = time.perf_counter() - start
        processor[name] = time.process_time() - busy
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{name}: {seconds[name]:.0f} s, processor {processor[name]:.0f} s, {peak:.0f} MB")
        print(table.to_markdown(), flush=True)
        if arguments.pictures == PICTURES:
            table.save(RESULTS, f"explanation_table_{name}")
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
            "seconds": seconds,
            "processor_seconds": processor,
            "peak_mb": peak,
        },
    )


if __name__ == "__main__":
    main()
