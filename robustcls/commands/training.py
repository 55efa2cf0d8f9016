"""`robustcls train`."""

from __future__ import annotations

from typing import Any

from jsonargparse import Namespace

from robustcls._command_line import (
    Runners,
    add_distribution_arguments,
    add_run_arguments,
    add_tracker_argument,
    epoch_verbosity,
    first_line,
    list_names,
    new_parser,
    resumable,
)
from robustcls.models.registry import BACKBONES
from robustcls.runs import Run
from robustcls.training.config import TrainConfig


def add_commands(commands: Any) -> Runners:
    """Adds `train`; returns what runs it."""
    made = new_parser("Train a reference model and its robust twins.")
    made.add_argument("--config", action="config", help="a YAML file with any of the settings")
    made.add_class_arguments(TrainConfig, as_group=False)
    for action in made._actions:
        if action.dest == "data":
            action.metavar = "NAME"
            action.help = (
                "as --data.name; --image_size, --channels, --skip_bad_images and --data_dir are "
                "--data.image_size and so on"
            )
        if action.dest == "objectives":  # one letter is too little to tell it from --objective
            action.option_strings = ["--objective_settings", *action.option_strings]
            made._option_string_actions["--objective_settings"] = action
    made.add_argument(
        "--objective",
        type=list[str] | None,
        help="objectives to train beside the reference, each a name that --models takes",
    )
    add_tracker_argument(made)
    add_run_arguments(made, lambda out: Run.open(out).config.get("train", {}))
    add_distribution_arguments(made)
    list_names(made, Backbones=BACKBONES)
    commands.add_subcommand("train", made, help=first_line(made.description))
    return {"train": _train}


def _train(values: Namespace) -> None:
    from robustcls.training.fit import train

    flags = values.as_dict()
    flags.pop("config", None)
    run_names = ("out", "resume", "overwrite", "distribute", "devices", "tracker")
    run_flags = {key: flags.pop(key) for key in run_names}
    objectives = flags.pop("objective")
    if objectives:
        flags["models"] = tuple(dict.fromkeys(["base", *objectives]))
    with resumable("robustcls", run_flags["out"]):
        run = train(TrainConfig(**flags), **run_flags, verbose=epoch_verbosity())
    if run is not None:
        if run_flags["tracker"] == "tensorboard":
            print(f"tensorboard --logdir {run.path}")
        print(run.path)
