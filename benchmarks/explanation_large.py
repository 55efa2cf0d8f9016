"""A picture of a million pixels, all methods and measures: python benchmarks/explanation_large.py.

One picture of 1000x1000 and MobileNetV2 of random weights that looks at it at 64x64, so that what
counts is what the picture's size costs. Each method is timed, with 128 masks, then each measure of
one method, on maps that are at hand, and the page that `rc.explain` writes with its tests. Writes
benchmarks/results/explanation_large.json and .md.
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

import robustcls as rc
from robustcls.explanation import MEASURES, METHODS, Explainer
from robustcls.explanation.quality.measures.trial import Trial
from robustcls.runs import versions, write_json, write_text

SIDE = 1000
SETTINGS = {"masks": 128}
# Methods of many passes are called once: what tracing their graph takes is little of it.
LONG = (
    "smoothgrad",
    "vargrad",
    "integrated_gradients",
    "score_cam",
    "occlusion",
    "rise",
    "kernel_shap",
)
RESULTS = Path(__file__).parent / "results"


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    model = rc.build_classifier(input_shape=(SIDE, SIDE, 3), resize_to=64, num_classes=10)
    noise = np.random.default_rng(0).random((1, SIDE, SIDE, 3))
    images = gaussian_filter(noise, (0, 20, 20, 0)).astype(np.float32)
    images = (images - images.min()) / np.ptp(images)
    explainer = Explainer(model, **SETTINGS)
    classes = explainer.predict(images).argmax(-1)
    masks = images.mean(-1) > 0.5
    methods = [name for name in METHODS if name != "attention_rollout"]
    before = peak()
    seconds: dict[str, tuple[float, float]] = {}

    def timed(name: str, call: Callable[..., object], *given: object) -> None:
        start, busy = time.perf_counter(), time.process_time()
        call(*given)
        used = time.process_time() - busy, time.perf_counter() - start
        seconds[name] = (round(used[0], 2), round(used[1], 2))
        print(name, *seconds[name], f"{peak():.0f} MB", flush=True)

    for name in methods:
        if name not in LONG:
            explainer(name, images, classes)
        timed(name, explainer, name, images, classes)
    maps = explainer("smoothgrad", images, classes)
    for name in MEASURES:
        trial = Trial(explainer, "smoothgrad", maps, images, classes, masks)
        timed(f"{name} of smoothgrad", MEASURES[name].function, trial)

    def page() -> None:
        with tempfile.TemporaryDirectory() as folder:
            rc.explain(model, (images, classes), folder, methods=("gradients", "grad_cam"))

    timed("report of gradients and grad_cam", page)
    about = {
        "command": "python benchmarks/explanation_large.py",
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "versions": versions(),
        "side": SIDE,
        "settings": SETTINGS,
        "seconds_of_processor_and_clock": seconds,
        "peak_mb_with_the_model_known": round(before),
        "peak_mb": round(peak()),
    }
    write_json(RESULTS / "explanation_large.json", about)
    lines = [f"| {name} | {used[0]:.1f} |" for name, used in seconds.items()]
    words = (
        f"Seconds of the processor, one picture of {SIDE}x{SIDE}; {peak():.0f} MB at the peak, "
        f"{before:.0f} before."
    )
    table_of = [words, "", "| what | seconds |", "|---|---|", *lines]
    write_text(RESULTS / "explanation_large.md", "\n".join(table_of) + "\n")


if __name__ == "__main__":
    main()
