"""The manifests in `deploy/` start commands that there are, with a `TF_CONFIG` that is one."""

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from robustcls import cli
from robustcls.distribution import Cluster
from robustcls.distribution.shards import Shard

DEPLOY = Path(__file__).parents[1] / "deploy"


def started(tmp_path, file, index):
    """What a pod of a Job starts: the words after `robustcls`, and its `TF_CONFIG`."""
    stand_in = tmp_path / "robustcls"
    stand_in.write_text('#!/bin/sh\nprintf "%s\\n" "$TF_CONFIG" | tr -d "\\n"; echo; echo "$@"\n')
    stand_in.chmod(0o755)
    *_, job = yaml.safe_load_all((DEPLOY / file).read_text())
    (container,) = job["spec"]["template"]["spec"]["containers"]
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "JOB_COMPLETION_INDEX": str(index),
    }
    done = subprocess.run(
        [*container["command"], *container["args"]],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    config, words = done.stdout.splitlines()
    return job, config, shlex.split(words)


def parsed(words):
    # The file of settings is on the cluster.
    words = [word for word in words if word not in ("--config", "/data/run.yaml")]
    return cli.parser()[0].parse_args(words)


@pytest.mark.parametrize("index", [0, 1])
def test_the_training_job_names_its_workers(tmp_path, monkeypatch, index):
    job, config, words = started(tmp_path, "train.yaml", index)
    monkeypatch.setenv("TF_CONFIG", config)
    cluster = Cluster.from_environment()
    assert cluster.index == index
    assert len(cluster.addresses) == job["spec"]["completions"] == job["spec"]["parallelism"]
    name, service = job["metadata"]["name"], job["spec"]["template"]["spec"]["subdomain"]
    assert cluster.addresses[index] == f"{name}-{index}.{service}:2222"
    train = parsed(words).train
    assert (train.distribute, train.resume) == ("multi_worker", True)
    assert json.loads(config)["task"]["index"] == index


def test_the_shards_are_those_of_the_job(tmp_path):
    job, _, words = started(tmp_path, "evaluate_shards.yaml", 4)
    assert Shard.parse(parsed(words).evaluate.shards) == Shard(5, job["spec"]["completions"])


def test_the_ray_job_starts_an_evaluation(tmp_path):
    job = yaml.safe_load((DEPLOY / "evaluate_ray.yaml").read_text())
    program, *words = shlex.split(job["spec"]["entrypoint"])
    evaluate = parsed(words).evaluate
    assert (program, evaluate.engine, evaluate.address) == ("robustcls", "ray", "auto")
    (workers,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = workers["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["cpu"] == str(evaluate.threads)
