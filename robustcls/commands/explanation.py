"""`robustcls explain`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from robustcls._command_line import Runners, first_line, function_parser, list_names
from robustcls.attacks.registry import ATTACKS
from robustcls.explanation.methods.registry import METHODS
from robustcls.explanation.quality.measures.registry import MEASURES


def add_commands(commands: Any) -> Runners:
    """Adds `explain`; returns what runs it."""
    made = function_parser(explain_models)
    made.add_argument("--config", action="config", help="a YAML file with any of the settings")
    list_names(made, Attacks=ATTACKS, Methods=METHODS, Measures=MEASURES)
    commands.add_subcommand("explain", made, help=first_line(made.description))
    return {"explain": _explain}


def _explain(values: Namespace) -> None:
    flags = values.as_dict()
    flags.pop("config", None)
    explain_models(**flags)


def explain_models(
    run: str,
    images: tuple[str, ...] = (),
    methods: tuple[str, ...] = (),
    classes: tuple[str, ...] = (),
    out: str | None = None,
    attack: str = "pgd",
    epsilon: float = 8 / 255,
    norm: str = "inf",
    steps: int = 20,
    limit: int = 24,
    only: str = "all",
    layer: str | None = None,
    quality_limit: int = 40,
    measures: tuple[str, ...] = (),
    show_classes: bool = False,
    batch_size: int = 32,
    seed: int = 0,
    data: str | None = None,
    input_range: tuple[float, float] | None = None,
    output: str | None = None,
    skip_bad_images: bool = False,
) -> None:
    """Show why models decide as they do, and what an attack does to that.

    Takes a run, or a .keras file with --data. Writes explanations.html, explanations.jsonl and the
    raw maps into the run's report, or beside the file.

    Args:
        run: a run, or a .keras file.
        images: picture files, or folders of them at any depth, to explain in place of the run's
            test images, all of them.
        methods: of explanation, gradients and grad_cam when left out.
        classes: names of the classes to choose images from; all when left out.
        out: the folder of the report; RUN/report, or NAME-explanation beside a file, when left out.
        attack: name of an attack, or none.
        epsilon: radius of the attack for images in [0, 1].
        norm: of the attack, inf or 2.
        steps: steps of PGD, and of attacks of your own that have steps; the others take their
            published number.
        limit: images at most, chosen at random.
        only: all, or only the images that are correct, wrong or flipped by the attack.
        layer: name of the layer that class activation maps are drawn from.
        quality_limit: images for the tests of the methods; 0 leaves them out.
        measures: also measure the methods by these, or by all, and say which maps may be believed
            and why; figures in verdict/MODEL.md and .csv.
        show_classes: also make the images that each model takes for a class most.
        batch_size: images a forward pass.
        seed: seed of everything random.
        data: images for a model file, as for training.
        input_range: what a model file wants 0 and 1 to be, for example 0 255; epsilon stays in
            [0, 1].
        output: which output of a model file to explain, by name or number.
        skip_bad_images: leave unreadable files of --images or --data out.
    """
    from robustcls._validation import InputError, check_choice
    from robustcls.explanation.reports.report import DEFAULT_METHODS
    from robustcls.explanation.reports.runs import explain_model_file, explain_run

    check_choice("attack", attack, ("none", *ATTACKS))
    ball = {"epsilon": epsilon, "norm": norm, "seed": seed, "steps": steps}
    settings: dict[str, Any] = {
        "out": out,
        "attack": None if attack == "none" else ATTACKS[attack].from_settings(ball),
        "methods": methods or DEFAULT_METHODS,
        "limit": limit,
        "only": only,
        "classes": classes,
        "layer": layer,
        "quality_limit": quality_limit,
        "measures": measures,
        "show_classes": show_classes,
        "batch_size": batch_size,
        "seed": seed,
        "progress": sys.stderr.isatty(),
    }
    own: dict[str, Any] = {"input_range": input_range, "output": output}
    if Path(run).is_file():
        if data is None:
            raise InputError(f"data must name the images for the model {run}; received none.")
        if images:
            raise InputError(f"images are for a run; {run} is a model, whose images data names.")
        own["skip_bad_images"] = skip_bad_images
        print(explain_model_file(run, data, **own, **settings).path)
        return
    for flag, value in {"data": data, **own}.items():
        if value is not None:
            raise InputError(f"{flag} is for a .keras file; {run} is none. Received {value!r}.")
    if skip_bad_images and not images:
        raise InputError(
            f"skip_bad_images is for --images and for a .keras file; the run {run} knows its own."
        )
    found = explain_run(run, images=images, skip_bad_images=skip_bad_images, **settings)
    print(found.path)
