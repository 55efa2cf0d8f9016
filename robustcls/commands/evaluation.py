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

from robustcls._command_line import (
    CommandParser,
    Runners,
    Spreading,
    add_skipping_argument,
    add_spreading_arguments,
    first_line,
    list_names,
    new_parser,
    take_spreading,
)
from robustcls._validation import InputError, check_choice
from robustcls.attacks.registry import ATTACKS
from robustcls.commands.explanation import merge_explanations
from robustcls.evaluation.corruptions.registry import CORRUPTIONS
from robustcls.evaluation.runs.config import EvaluationConfig
from robustcls.evaluation.smoothing.config import SmoothingConfig
from robustcls.files import read_sealed, write_sealed
from robustcls.reports.evaluations import DEFAULT, EVALUATIONS, evaluating, evaluation_folder


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
    add_spreading_arguments(made)
    made.kept_beside = EVALUATIONS
    commands.add_subcommand("evaluate", made, help=first_line(made.description))
    made = new_parser(merge.__doc__ or "")
    made.add_argument("run", type=str, help="as the shards were given it")
    for name in ("data", "out", "name", "output"):
        made.add_argument(f"--{name}", type=str | None, help="as the shards were given it")
    ends = tuple[float, float] | None
    made.add_argument("--input_range", type=ends, help="as the shards were given it")
    made.add_argument(
        "--command",
        type=str,
        default="evaluate",
        help="that was divided: evaluate, certify or explain",
    )
    made.add_argument(
        "--folders",
        type=list[str],
        default=[],
        help="results of shards that ran elsewhere: copies of the folders that they named",
    )
    add_skipping_argument(made)
    commands.add_subcommand("merge", made, help=first_line(made.description))
    made = _models_parser("certify", certify.__doc__)
    made.add_class_arguments(SmoothingConfig, as_group=False)
    made.add_argument(
        "--bound", type=str | None, help="certify by bounds instead: ibp or crown, L-infinity"
    )
    made.add_argument(
        "--epsilon", type=float | None, help="radius of the ball for --bound, images in [0, 1]"
    )
    add_spreading_arguments(made)
    commands.add_subcommand("certify", made, help=first_line(made.description))
    return {"evaluate": _evaluate, "merge": _merge, "certify": _certify}


def _evaluate(values: Namespace) -> None:
    flags, where = _split(values)
    spreading = take_spreading(flags)
    resume, strict, name = flags.pop("resume"), flags.pop("strict"), flags.pop("name")
    flags["trust"] |= strict
    evaluate(EvaluationConfig(**flags), where, resume, strict, name, spreading)


def _merge(values: Namespace) -> None:
    flags = values.as_dict()
    chosen = {key: flags.pop(key) for key in ("name", "command", "folders")}
    merge({"path": flags.pop("run"), **flags}, **chosen)


def _certify(values: Namespace) -> None:
    flags, where = _split(values)
    spreading = take_spreading(flags)
    resume, bound, epsilon = flags.pop("resume"), flags.pop("bound"), flags.pop("epsilon")
    if bound is not None:
        shared = {key: flags[key] for key in ("limit", "batch_size", "seed")}
        ball = {} if epsilon is None else {"epsilon": epsilon}
        certify(_config_of("certify", {"bound": bound, **ball, **shared}), where, resume, spreading)
        return
    if epsilon is not None:
        raise InputError(f"epsilon needs --bound ibp or crown; received {epsilon} without.")
    certify(SmoothingConfig(**flags), where, resume, spreading)


def _split(values: Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the settings, and the arguments of `find_models`."""
    flags = values.as_dict()
    flags.pop("config", None)
    of_files = ("data", "out", "input_range", "output", "skip_bad_images")
    where = {key: flags.pop(key) for key in of_files}
    return flags, {"path": flags.pop("run"), **where}


def evaluate(
    config: EvaluationConfig,
    where: dict[str, Any],
    resume: bool,
    strict: bool,
    name: str | None = None,
    spreading: Spreading | None = None,
) -> None:
    """Measure models on clean, corrupted and attacked test images, side by side.

    Takes a run, or a .keras file or SavedModel with --data. Writes metrics.json,
    report/evaluation.html and report/accuracy_over_epsilon.svg.
    """
    from robustcls.evaluation.runs.comparison import chosen_evaluation

    choose = functools.partial(chosen_evaluation, config=config, name=name, resume=resume)
    with _models("evaluate", where, config, choose) as evaluated:
        if name is None and evaluated.evaluation != DEFAULT:
            print(
                f"The evaluation with other settings stays; this one is {evaluated.evaluation}.",
                file=sys.stderr,
            )
        if _is_shard(evaluated, config, where, resume, spreading):
            return
        metrics = _measure(evaluated, config, resume or spreading is not None)
    doubtful = [name for name, found in metrics["trust"].items() if not found["believable"]]
    if strict and doubtful:
        print(f"robustcls: trust checks failed for {', '.join(doubtful)}", file=sys.stderr)
        sys.exit(1)


def merge(where: dict[str, Any], name: str | None, command: str, folders: list[str]) -> None:
    """Join what the shards of a command measured (`evaluate --shards 1/5` and so on).

    Writes what one process would have written, bit by bit: metrics.json and the report of
    `evaluate`, certification.json or bounds.json of `certify` (--command certify),
    the report of `explain` (--command explain).
    """
    from robustcls.distribution.shards import require_shards
    from robustcls.evaluation.runs.models import find_models
    from robustcls.evaluation.runs.work import work_of

    check_choice("command", command, ("evaluate", "certify", "explain"))
    if command != "evaluate" and name is not None:
        raise InputError(f"name is for evaluations; received {name!r} with --command {command}.")
    if command == "explain":
        merge_explanations(where["path"], where["out"], folders)
        return
    evaluated = find_models(**where)
    folder = evaluation_folder(evaluated.folder, name or DEFAULT)
    if command == "evaluate":
        evaluated = dataclasses.replace(evaluated, folder=folder, evaluation=name or DEFAULT)
    places = [folder, *map(Path, folders)]
    settings = next(filter(None, (_kept_settings(command, place) for place in places)), None)
    if settings is None:
        raise InputError(f"run must hold the results of shards; {folder} holds none.")
    config = _config_of(command, settings)
    require_shards(work_of(evaluated, config), folders)
    _measure(evaluated, config, resume=True)
    print(folder)


def _config_of(command: str, settings: dict[str, Any]) -> Any:
    if command == "evaluate":
        return EvaluationConfig(**settings)
    if "bound" in settings:
        from robustcls.evaluation.runs.bounds import BoundsConfig

        return BoundsConfig(**settings)
    return SmoothingConfig(**settings)


def certify(
    config: Any, where: dict[str, Any], resume: bool, spreading: Spreading | None = None
) -> None:
    """Certify radii without adversarial examples, by randomized smoothing or by bounds.

    Takes a run, or a .keras file or SavedModel with --data. Smoothing (L2) writes
    certification.json and report/certified_accuracy.svg; bounds (L-infinity, --bound) write
    bounds.json.
    """
    with _models("certify", where, config) as evaluated:
        if not _is_shard(evaluated, config, where, resume, spreading):
            _measure(evaluated, config, resume or spreading is not None)


def _is_shard(
    evaluated: Any, config: Any, where: dict[str, Any], resume: bool, spreading: Spreading | None
) -> bool:
    """Measures what is spread; returns whether that is one shard, which has nothing to show."""
    from robustcls.evaluation.runs.work import open_work, work_of

    if spreading is None:
        return False
    elsewhere = functools.partial(open_work, where, config, evaluated.evaluation)
    with evaluating(evaluated.folder, shared=True):
        spreading.measure(work_of(evaluated, config), elsewhere, resume=resume)
    return spreading.shard is not None


def _measure(evaluated: Any, config: Any, resume: bool) -> dict[str, Any]:
    """Measures what a configuration asks for, writes the files and prints the tables."""
    progress = sys.stderr.isatty()
    if isinstance(config, EvaluationConfig):
        from robustcls.evaluation.runs.comparison import evaluate_models, print_comparison

        found = evaluate_models(evaluated, config, resume=resume, progress=progress)
        print_comparison(found)
    elif isinstance(config, SmoothingConfig):
        from robustcls.evaluation.runs.certification import certify_models, print_certification

        found = certify_models(evaluated, config, resume=resume, progress=progress)
        print_certification(found)
    else:
        from robustcls.evaluation.runs.bounds import certify_models_by_bounds, print_bounds

        found = certify_models_by_bounds(evaluated, config, resume=resume)
        print_bounds(found)
    return found


def _keep_settings(command: str, folder: Path, config: Any) -> None:
    """Leaves the settings for `--resume`."""
    write_sealed(folder / f"{command}_settings.json", dataclasses.asdict(config))


def _kept_settings(command: str, folder: Path | str) -> dict[str, Any]:
    path = Path(folder) / f"{command}_settings.json"
    return read_sealed(path) if path.is_file() else {}


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
    add_skipping_argument(made)
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
        kept = f"{evaluated.folder} keeps what was found"
        print(f"\nrobustcls: {kept}; {flags} goes on", file=sys.stderr)
        raise
    print(evaluated.folder)
