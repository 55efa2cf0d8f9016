"""Trains by a command on the workers of Ray Train.

    pip install '.[ray]' 'ray[train]==2.60.0'
    python deploy/train_ray.py --workers 2 --threads 4 [--address HOST:PORT] -- \
        robustcls train --config run.yaml --out /shared/runs/mine

The command, `robustcls train` or `anomaly train`, runs in every worker with `--distribute
multi_worker`: Ray Train's TensorFlow trainer names the workers in TF_CONFIG, and starts all of them
again, with `--resume`, when one is lost. All machines need the same folders, as for `--engine ray`.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any


def main() -> None:
    """Starts the training, and prints its folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of each worker, in TensorFlow")
    parser.add_argument("--gpus", action="store_true", help="one for each worker")
    parser.add_argument("--address", help="of a cluster; one is started here when left out")
    parser.add_argument("--failures", type=int, default=3, help="how often workers may be lost")
    parser.add_argument("command", nargs="+", help="robustcls train ... or anomaly train ...")
    arguments = parser.parse_args()
    if arguments.command[0] not in ("robustcls", "anomaly") or "--out" not in arguments.command:
        parser.error("the command must be robustcls train or anomaly train, with --out")

    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.tensorflow import TensorflowTrainer

    from robustcls.distribution.ray_cluster import connected

    out = arguments.command[arguments.command.index("--out") + 1]
    trainer = TensorflowTrainer(
        work,
        train_loop_config={
            "command": arguments.command,
            "out": os.path.abspath(out),
            "folder": os.getcwd(),
            "threads": arguments.threads,
        },
        scaling_config=ScalingConfig(
            num_workers=arguments.workers,
            use_gpu=arguments.gpus,
            resources_per_worker={"CPU": arguments.threads},
        ),
        run_config=RunConfig(
            storage_path=os.path.abspath(out) + "-ray",
            failure_config=FailureConfig(max_failures=arguments.failures),
        ),
    )
    # Ray Train's own controller takes a CPU, too.
    with connected(arguments.address, arguments.workers * arguments.threads + 1):
        trainer.fit()
    print(out)


def work(settings: dict[str, Any]) -> None:
    """Runs the command in a worker's process, where TF_CONFIG is set."""
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(settings["threads"])
    os.environ["TF_NUM_INTEROP_THREADS"] = str(settings["threads"])
    os.chdir(settings["folder"])
    program, *words = settings["command"]
    if os.path.exists(os.path.join(settings["out"], "config.json")):
        words = [word for word in words if word != "--overwrite"] + ["--resume"]
    if program == "robustcls":
        from robustcls.cli import main as run
    else:
        from anomaly.cli import main as run
    try:
        run([*words, "--distribute", "multi_worker"])
    except SystemExit as left:
        if left.code:
            raise RuntimeError(f"{program} ended with status {left.code}") from None


if __name__ == "__main__":
    sys.exit(main())
