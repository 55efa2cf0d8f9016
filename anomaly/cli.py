"""The `anomaly` command: argument parsing and printing, no logic.

TensorFlow is imported by the commands that need it, so `--help` and wrong arguments answer at
once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jsonargparse import ArgumentParser, Namespace

from anomaly.config import DetectorConfig
from anomaly.methods import METHODS
from robustcls._command_line import (
    first_line,
    function_parser,
    import_tensorflow,
    new_parser,
    run_command,
    with_underscores,
)
from robustcls._validation import check_choice


def train_command(config: DetectorConfig, out: str, resume: bool, overwrite: bool) -> None:
    """Train a detector on the normal images of one class."""
    from anomaly.experiments import train_detector

    print(train_detector(config, out, resume=resume, overwrite=overwrite).path)


def evaluate_command(run: str, batch_size: int = 256) -> None:
    """Measure a run's detector on the whole test split.

    Writes metrics.json and report/scores.png into the run.

    Args:
        run: the run folder.
        batch_size: images a forward pass.
    """
    from anomaly.experiments import evaluate_detector, print_evaluation

    metrics = evaluate_detector(run, batch_size=batch_size, progress=sys.stderr.isatty())
    print_evaluation(metrics)
    print(run)


def export_command(
    run: str, out: str | None = None, name: str | None = None, version: int | None = None
) -> None:
    """Write a run's detector as a SavedModel for TensorFlow Serving.

    `robustcls check-export` and `robustcls serve` take what it writes.

    Args:
        run: the run folder.
        out: the model's folder, which gets the next version; RUN/export when left out.
        name: the detector's name in requests; the run's when left out.
        version: the number of the version; the next when left out.
    """
    from anomaly.experiments import export_detector

    print(export_detector(run, out, name=name, version=version))


def parser() -> ArgumentParser:
    """Returns the parser of the whole command."""
    top = new_parser("Find images that are not like the normal ones.")
    commands = top.add_subcommands(metavar="COMMAND")
    training = new_parser(f"{train_command.__doc__} Methods: {', '.join(METHODS)}.")
    training.add_argument("--config", action="config", help="a YAML file with any of the settings")
    training.add_class_arguments(DetectorConfig, as_group=False)
    training.add_argument("--out", type=str, required=True, help="the run folder to make")
    training.add_argument(
        "--resume", action="store_true", help="go on with an interrupted run in --out"
    )
    training.add_argument(
        "--overwrite", action="store_true", help="delete the run that is in --out"
    )
    commands.add_subcommand("train", training, help=train_command.__doc__)
    evaluation = function_parser(evaluate_command)
    commands.add_subcommand("evaluate", evaluation, help=first_line(evaluation.description))
    exporting = function_parser(export_command)
    commands.add_subcommand("export", exporting, help=first_line(exporting.description))
    return top


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; wrong input is one line on standard error and status 2."""
    given = with_underscores(sys.argv[1:] if arguments is None else arguments)
    run_command("anomaly", lambda: _run(parser().parse_args(given)))


def _run(values: Namespace) -> None:
    if values.subcommand == "train":
        flags = values.train.as_dict()
        flags.pop("config", None)
        check_choice("method", flags["method"], METHODS)
        run_flags = {key: flags.pop(key) for key in ("out", "resume", "overwrite")}
        import_tensorflow()
        train_command(DetectorConfig(**flags), **run_flags)
    elif values.subcommand == "export":
        import_tensorflow()
        export_command(**values.export.as_dict())
    else:
        import_tensorflow()
        evaluate_command(**values.evaluate.as_dict())
