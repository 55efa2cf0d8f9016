"""The quickstart's models on test images that nobody had seen when its settings were chosen.

    python benchmarks/unseen_images.py runs/quickstart [--out benchmarks/results/unseen_images.json]

The embedded set holds 2,000 of Fashion-MNIST's 10,000 test images; here are the other 8,000, with
the quickstart's evaluation settings. They come from `robustcls data prepare fashion_mnist`. Ten
minutes on two cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a finished run of scripts/quickstart")
    parser.add_argument("--limit", type=int, default=2000, help="how many of them are attacked")
    parser.add_argument("--out", type=Path, help="write the JSON to this file")
    arguments = parser.parse_args()

    import numpy as np

    from robustcls import load
    from robustcls.evaluation.runs.comparison import evaluate_models, print_comparison
    from robustcls.evaluation.runs.config import EvaluationConfig
    from robustcls.evaluation.runs.models import find_models
    from robustcls.runs import write_json

    evaluated = find_models(arguments.run)
    everything = load("fashion_mnist").test
    known = {image.tobytes() for image in evaluated.test.images}
    unseen = everything.take(
        np.flatnonzero([image.tobytes() not in known for image in everything.images])
    )
    assert len(unseen) <= len(everything) - len(evaluated.test)
    with tempfile.TemporaryDirectory() as folder:
        metrics = evaluate_models(
            dataclasses.replace(evaluated, folder=Path(folder), test=unseen),
            EvaluationConfig(epsilon=0.05, limit=arguments.limit, curve_limit=0),
            progress=True,
        )
    print_comparison(metrics)
    if arguments.out:
        kept = ("epsilon", "count", "models", "intervals", "versions")
        result = {key: metrics[key] for key in kept if key in metrics}
        result |= {model: metrics[model] for model in metrics["models"]}
        command = "python benchmarks/unseen_images.py runs/quickstart"
        write_json(arguments.out, {"command": command, "attacked": arguments.limit, **result})


if __name__ == "__main__":
    main()
