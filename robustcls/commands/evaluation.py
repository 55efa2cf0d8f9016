"""`robustcls evaluate` and `robustcls certify`."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from robustcls._command_line import CommandParser, Runners, first_line, list_names, new_parser
from robustcls._validation import InputError
from robustcls.attacks.registry import ATTACKS
from robustcls.evaluation.corruptions.registry import CORRUPTIONS
from robustcls.evaluation.runs.config import EvaluationConfig
from robustcls.evaluation.smoothing.config import SmoothingConfig
from robustcls.reports.evaluations import DEFAULT, EVALUATIONS, evaluation_folder
from robustcls.runs import read_json, write_json


def add_commands(commands: Any) -> Runners:
    """Adds `evaluate` and `certify`; returns what runs them."""
    made = _models_parser("evaluate", evaluate.__doc__)
    list_names(made, Attacks=ATTACKS, Corruptions=CORRUPTIONS)
    made.add_class_arguments(EvaluationConfig, as_group=False, skip={"trust"})
    made.add_argument(
        "--trust", action="store_true", help="check whether the figures can be believed"
    )
    made.add_argument(
        "--strict", action="store_true", help="as --trust, and exit with status 1 if they cannot"
    )
    made.add_argument(
        "--name",
        type=str | None,
        help="of the evaluation, whose results go into RUN/evaluations/NAME; by default they go "
        "into the run, and beside an evaluation with other settings under a name made of those",
    )
    made.add_argument(
        "--shards",
        type=str | None,
        help="measure one share alone, such as 2/5 for the second of five; `merge` joins them",
    )
    made.kept_beside = EVALUATIONS
    commands.add_subcommand("evaluate", made, help=first_line(made.description))
    made = new_parser(merge.__doc__ or "")
    made.add_argument("run", type=str, help="as `evaluate` was given it")
    for name in ("data", "out", "name"):
        made.add_argument(f"--{name}", type=str | None, help="as `evaluate` was given it")
    made.add_argument(
        "--folders",
        type=list[str],
        default=[],
        help="results of shards that ran elsewhere: copies of the folders that they named",
    )
    commands.add_subcommand("merge", made, help=first_line(made.description))
    made = _models_parser("certify", certify.__doc__)
    made.add_class_arguments(SmoothingConfig, as_group=False)
    made.add_argument(
        "--bound", type=str | None, help="certify by bounds instead: ibp or crown, L-infinity"
    )
    made.add_argument(
        "--epsilon", type=float | None, help="radius of the ball for --bound, images in [0, 1]"
    )
    commands.add_subcommand("certify", made, help=first_line(made.description))
    return {"evaluate": _evaluate, "merge": _merge, "certify": _certify}


def _evaluate(values: Namespace) -> None:
    flags, where = _split(values)
    resume, strict, name = flags.pop("resume"), flags.pop("strict"), flags.pop("name")
    shards = flags.pop("shards")
    flags["trust"] |= strict
    if shards is not None:
        evaluate_shard(EvaluationConfig(**flags), where, shards, resume, name)
        return
    evaluate(EvaluationConfig(**flags), where, resume, strict, name)


def _merge(values: Namespace) -> None:
    flags = values.as_dict()
    merge(flags.pop("run"), **flags)


def _certify(values: Namespace) -> None:
    flags, where = _split(values)
    resume, bound, epsilon = flags.pop("resume"), flags.pop("bound"), flags.pop("epsilon")
    if bound is not None:
        shared = {key: flags[key] for key in ("limit", "batch_size", "seed")}
        ball = {} if epsilon is None else {"epsilon": epsilon}
        certify_by_bounds({"bound": bound, **ball, **shared}, where, resume)
        return
    if epsilon is not None:
        raise InputError(f"epsilon needs --bound ibp or crown; received {epsilon} without.")
    certify(SmoothingConfig(**flags), where, resume)


def _split(values: Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the settings, and the arguments of `find_models`."""
    flags = values.as_dict()
    flags.pop("config", None)
    where = {key: flags.pop(key) for key in ("data", "out", "input_range", "output")}
    return flags, {"path": flags.pop("run"), **where}


def evaluate(
    config: EvaluationConfig,
    where: dict[str, Any],
    resume: bool,
    strict: bool,
    name: str | None = None,
) -> None:
    """Measure models on clean, corrupted and attacked test images, side by side.

    Takes a run, or a .keras file or SavedModel with --data. Writes metrics.json,
    report/evaluation.html and report/accuracy_over_epsilon.svg.
    """
    from robustcls.evaluation.runs.comparison import (
        chosen_evaluation,
        evaluate_models,
        print_comparison,
    )

    choose = functools.partial(chosen_evaluation, config=config, name=name, resume=resume)
    with _models("evaluate", where, config, choose) as evaluated:
        if name is None and evaluated.evaluation != DEFAULT:
            print(
                f"The evaluation with other settings stays; this one is {evaluated.evaluation}.",
                file=sys.stderr,
            )
        metrics = evaluate_models(evaluated, config, resume=resume, progress=sys.stderr.isatty())
        print_comparison(metrics)
    doubtful = [name for name, found in metrics["trust"].items() if not found["believable"]]
    if strict and doubtful:
        print(f"robustcls: trust checks failed for {', '.join(doubtful)}", file=sys.stderr)
        sys.exit(1)


def evaluate_shard(
    config: EvaluationConfig, where: dict[str, Any], shards: str, resume: bool, name: str | None
) -> None:
    """Measure one share of the parts; the other half of `evaluate`."""
    from robustcls.evaluation.runs.comparison import chosen_evaluation
    from robustcls.evaluation.runs.shards import Shard, measure_shard

    shard = Shard.parse(shards)
    choose = functools.partial(chosen_evaluation, config=config, name=name, resume=resume)
    with _models("evaluate", where, config, choose) as evaluated:
        for part in measure_shard(evaluated, config, shard, progress=sys.stderr.isatty()):
            print(part)


def merge(
    run: str, data: str | None, out: str | None, name: str | None, folders: list[str]
) -> None:
    """Join what the shards of an evaluation measured (`evaluate --shards 1/5` and so on).

    Writes metrics.json and the report that one process would have written, bit by bit.
    """
    from robustcls.evaluation.runs.comparison import print_comparison
    from robustcls.evaluation.runs.models import find_models
    from robustcls.evaluation.runs.shards import merge_shards

    found = find_models(run, data, out=out)
    folder = evaluation_folder(found.folder, name or DEFAULT)
    places = [folder, *map(Path, folders)]
    settings = next(filter(None, (_kept_settings("evaluate", place) for place in places)), None)
    if settings is None:
        raise InputError(f"run must hold the results of shards; {folder} holds none.")
    evaluated = dataclasses.replace(found, folder=folder, evaluation=name or DEFAULT)
    print_comparison(merge_shards(evaluated, EvaluationConfig(**settings), folders))
    print(folder)


def certify(config: SmoothingConfig, where: dict[str, Any], resume: bool) -> None:
    """Certify radii without adversarial examples, by randomized smoothing or by bounds.

    Takes a run, or a .keras file or SavedModel with --data. Smoothing (L2) writes
    certification.json and report/certified_accuracy.svg; bounds (L-infinity, --bound) write
    bounds.json.
    """
    from robustcls.evaluation.runs.certification import certify_models, print_certification

    with _models("certify", where, config) as evaluated:
        found = certify_models(evaluated, config, resume=resume, progress=sys.stderr.isatty())
        print_certification(found)


def certify_by_bounds(settings: dict[str, Any], where: dict[str, Any], resume: bool) -> None:
    """Certify an L-infinity ball by bounds; the other half of `certify`."""
    from robustcls.evaluation.runs.bounds import (
        BoundsConfig,
        certify_models_by_bounds,
        print_bounds,
    )

    config = BoundsConfig(**settings)
    with _models("certify", where, config) as evaluated:
        found = certify_models_by_bounds(evaluated, config, resume=resume)
        print_bounds(found)


def _settings_file(command: str, folder: Path | str) -> Path:
    return Path(folder) / f"{command}_settings.json"


def _keep_settings(command: str, folder: Path, config: Any) -> None:
    """Leaves the settings for `--resume`."""
    write_json(_settings_file(command, folder), dataclasses.asdict(config))


def _kept_settings(command: str, folder: Path | str) -> dict[str, Any]:
    path = _settings_file(command, folder)
    return read_json(path) if path.is_file() else {}


def _models_parser(command: str, description: str | None) -> CommandParser:
    """Returns a parser with the arguments of `find_models`."""
    made = new_parser(description or "")
    made.kept_in, made.kept_settings = "run", functools.partial(_kept_settings, command)
    made.add_argument("--config", action="config", help="a YAML file with any of the settings")
    made.add_argument("run", type=str, help="a run, a .keras file or a SavedModel folder")
    made.add_argument("--data", type=str | None, help="images for a model file, as for training")
    made.add_argument("--out", type=str | None, help="where the results for a model file go")
    made.add_argument(
        "--input_range",
        type=tuple[float, float] | None,
        help="what a model file wants 0 and 1 to be, for example 0 255; epsilon stays in [0, 1]",
    )
    made.add_argument(
        "--output", type=str | None, help="which output of a model file, by name or number"
    )
    made.add_argument(
        "--resume",
        action="store_true",
        help="go on with what was stopped, with the settings of then but for flags given now",
    )
    return made


@contextlib.contextmanager
def _models(
    command: str, where: dict[str, Any], config: Any, choose: Callable[[Any], Any] = lambda it: it
) -> Iterator[Any]:
    """Finds the models; prints where the results are, or how to go on after an interruption."""
    from robustcls.evaluation.runs.models import find_models

    evaluated = choose(find_models(**where))
    _keep_settings(command, evaluated.folder, config)
    try:
        yield evaluated
    except KeyboardInterrupt:
        named = evaluated.evaluation not in (None, DEFAULT)
        flags = f"--resume --name {evaluated.evaluation}" if named else "--resume"
        print(
            f"\nrobustcls: {evaluated.folder} keeps what was found; {flags} goes on",
            file=sys.stderr,
        )
        raise
    print(evaluated.folder)
