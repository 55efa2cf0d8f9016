"""The `anomaly` command: argument parsing and printing, no logic.

TensorFlow is imported by the commands that need it, so `--help` and wrong arguments answer at
once.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from anomaly.commands import evaluate_command, export_command, frames_command, video_command
from anomaly.detection.registry import METHODS
from anomaly.experiments.config import BenchmarkConfig, DetectorConfig
from robustcls._command_line import (
    CommandParser,
    Spreading,
    add_distribution_arguments,
    add_function_commands,
    add_run_arguments,
    add_skipping_argument,
    add_spreading_arguments,
    add_tracker_argument,
    command_parser,
    epoch_verbosity,
    first_line,
    import_named_modules,
    import_tensorflow,
    naming_flags,
    new_parser,
    resumable,
    run_command,
    take_spreading,
    with_underscores,
)
from robustcls._locks import locked
from robustcls._validation import InputError, check_choice
from robustcls.distribution.shards import require_shards
from robustcls.runs import Run, write_json


def train_command(config: DetectorConfig, out: str, **flags: Any) -> None:
    """Train a detector on the normal images of one class."""
    from anomaly.experiments.runs import train_detector

    with resumable("anomaly", out):
        run = train_detector(config, out, **flags, verbose=epoch_verbosity())
    if run is not None:
        print(run.path)


def benchmark_command(
    config: BenchmarkConfig,
    out: str,
    resume: bool,
    overwrite: bool,
    spreading: Spreading | None = None,
) -> None:
    """Train and measure methods on each class in turn; tables are written as results come in."""
    from anomaly.experiments.benchmark import benchmark_work, open_benchmark, run_benchmark

    with resumable("anomaly", out):
        if spreading is None:
            run = run_benchmark(config, out, resume=resume, overwrite=overwrite)
        else:
            # Shards may share a folder, which the first of them makes.
            again = resume or (spreading.shard is not None and not overwrite)
            run, work = open_benchmark(config, out, resume=again, overwrite=overwrite)
            elsewhere = functools.partial(benchmark_work, config, Path(out))
            with locked(out, shared=True):
                spreading.measure(work, elsewhere, resume=again)
            work.arrived()
    print((run.path / "results.md").read_text(encoding="utf-8"))
    print(run.path)


def score_command(**values: Any) -> None:
    """Score image files: how anomalous each is."""
    from anomaly.experiments.scores import SETTINGS, ScoreConfig, score_files, score_work

    spreading = take_spreading(values)
    out, resume = Path(values.pop("out")), values.pop("resume")
    config = ScoreConfig(**values | {"images": tuple(values["images"])})
    if spreading is not None:
        work = score_work(config, out)
        elsewhere = functools.partial(score_work, config, out)
        spreading.measure(work, elsewhere, resume=resume)
        if spreading.shard is not None:
            write_json(out / SETTINGS, dataclasses.asdict(config))
            print(out)
            return
    progress = sys.stderr.isatty()
    print(score_files(config, out, resume=resume or spreading is not None, progress=progress))


def merge_command(out: str, folders: list[str]) -> None:
    """Join what the shards of a benchmark or of a scoring found (`--shards 1/5` and so on).

    Writes what one process would have written; a missing shard is named.

    Args:
        out: the folder that the shards, or the first of them, wrote into.
        folders: results of shards that ran elsewhere: copies of the folders that they wrote into.
    """
    from anomaly.experiments.benchmark import benchmark_work
    from anomaly.experiments.scores import ScoreConfig, score_files, score_work

    if Run.is_at(out):
        config = Run.open(out).config.get("benchmark")
        if config is None:
            raise InputError(f"out must hold a benchmark or scores; {out} is another kind of run.")
        work = benchmark_work(BenchmarkConfig(**config), Path(out))
        require_shards(work, folders)
        work.arrived()
        print((Path(out) / "results.md").read_text(encoding="utf-8"))
        return
    scored = ScoreConfig.kept_in(out)
    require_shards(score_work(scored, out), folders)
    print(score_files(scored, out, resume=True))


def boxes_command(
    run: str, images: list[str], out: str, batch_size: int, skip_bad_images: bool
) -> None:
    """Draw red boxes around what is anomalous in image files."""
    from anomaly.experiments.boxes import box_images

    settings: dict[str, Any] = {"batch_size": batch_size, "skip_bad_images": skip_bad_images}
    print(box_images(run, images, out, **settings, progress=sys.stderr.isatty()))


_RUNS: dict[str, tuple[type, Callable[..., None]]] = {
    "train": (DetectorConfig, train_command),
    "benchmark": (BenchmarkConfig, benchmark_command),
}
_FUNCTIONS: dict[str, Callable[..., None]] = {
    "evaluate": evaluate_command,
    "export": export_command,
    "frames": frames_command,
    "video": video_command,
}
_COMMANDS: dict[str, Callable[..., None]] = {
    **_FUNCTIONS,
    "boxes": boxes_command,
    "merge": merge_command,
    "score": score_command,
}


def parser() -> CommandParser:
    """Returns the parser of the whole command."""
    top = command_parser("anomaly", "Find images that are not like the normal ones.")
    commands = top.add_subcommands(metavar="COMMAND")
    for name, (config, command) in _RUNS.items():
        making = new_parser(f"{command.__doc__} Methods: {', '.join(METHODS)}.")
        making.add_argument(
            "--config", action="config", help="a YAML file with any of the settings"
        )
        making.add_class_arguments(config, as_group=False)
        add_run_arguments(making, _kept(name))
        if name == "train":
            add_distribution_arguments(making)
            add_tracker_argument(making)
        else:
            add_spreading_arguments(making)
        commands.add_subcommand(name, making, help=command.__doc__)
    add_function_commands(commands, _FUNCTIONS)
    boxing = new_parser(
        f"{boxes_command.__doc__} Writes a PNG for each image, boxes.json and boxes.csv into "
        "--out; coordinates are in the pixels of the files."
    )
    boxing.add_argument("run", type=str, help="the run folder of a detector that makes maps")
    _add_image_arguments(boxing)
    add_skipping_argument(boxing)
    commands.add_subcommand("boxes", boxing, help=boxes_command.__doc__)
    scoring = new_parser(f"{score_command.__doc__} Writes scores.csv and scores.json into --out.")
    scoring.add_argument("run", type=str, help="the run folder of a detector")
    _add_image_arguments(scoring)
    add_skipping_argument(scoring)
    scoring.add_argument("--resume", action="store_true", help="keep the scores that are there")
    add_spreading_arguments(scoring)
    commands.add_subcommand("score", scoring, help=score_command.__doc__)
    merging = new_parser((merge_command.__doc__ or "").partition("\n\n    Args:")[0])
    merging.add_argument("out", type=str, help="the folder that the shards wrote into")
    merging.add_argument(
        "--folders",
        type=list[str],
        default=[],
        help="results of shards that ran elsewhere: copies of the folders that they wrote into",
    )
    commands.add_subcommand("merge", merging, help=first_line(merging.description))
    return top


def _add_image_arguments(made: CommandParser) -> None:
    """Adds the image files of a command, where its results go, and the batch."""
    made.add_argument(
        "--images",
        type=list[str],
        required=True,
        help="files, or folders whose image files are taken at any depth",
    )
    made.add_argument("--out", type=str, required=True, help="the folder to write into")
    made.add_argument("--batch_size", type=int, default=64, help="images a forward pass")


def _kept(command: str) -> Callable[[str], Mapping[str, Any]]:
    """Returns what reads the settings of a run that `command` made."""
    return lambda out: Run.open(out).config.get(command, {})


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; wrong input is one line on standard error and status 2."""
    given = with_underscores(sys.argv[1:] if arguments is None else arguments)
    run_command("anomaly", lambda: _run(given))


def _run(arguments: Sequence[str]) -> None:
    given = import_named_modules(arguments)
    top = parser()
    values = top.parse_args(given)
    with naming_flags(top, values):
        _run_command(values)


def _run_command(values: Namespace) -> None:
    flags = values[values.subcommand].as_dict()
    if values.subcommand in _COMMANDS:
        import_tensorflow()
        _COMMANDS[values.subcommand](**flags)
        return
    config, command = _RUNS[values.subcommand]
    flags.pop("config", None)
    if "method" in flags:
        check_choice("method", flags["method"], METHODS)
    names = ("out", "resume", "overwrite", "distribute", "devices", "tracker")
    run_flags = {key: flags.pop(key) for key in names if key in flags}
    if values.subcommand == "benchmark":
        run_flags["spreading"] = take_spreading(flags)
    import_tensorflow()
    command(config(**flags), **run_flags)
