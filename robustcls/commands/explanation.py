"""`robustcls explain`, and `robustcls figure` of what it wrote."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from robustcls._command_line import (
    Runners,
    add_function_commands,
    add_spreading_arguments,
    first_line,
    function_parser,
    list_names,
    take_spreading,
)
from robustcls._validation import InputError, check_choice
from robustcls.attacks.registry import ATTACKS
from robustcls.distribution.shards import require_shards
from robustcls.explanation.methods.registry import METHODS
from robustcls.explanation.quality.measures.registry import MEASURES
from robustcls.files import read_json, write_json

SETTINGS = "explain_settings.json"


def add_commands(commands: Any) -> Runners:
    """Adds both; returns what runs each."""
    made = function_parser(explain_models)
    made.add_argument("--config", action="config", help="a YAML file with any of the settings")
    add_spreading_arguments(made)
    list_names(made, Attacks=ATTACKS, Methods=METHODS, Measures=MEASURES)
    commands.add_subcommand("explain", made, help=first_line(made.description))
    return {"explain": _explain} | add_function_commands(commands, {"figure": draw_figure})


def draw_figure(
    folder: str,
    image: str,
    out: str,
    models: tuple[str, ...] = (),
    methods: tuple[str, ...] = (),
) -> None:
    """Draw one image of a report with its maps, as PNG, PDF or SVG for a paper.

    Args:
        folder: that robustcls explain wrote to, or the run.
        image: its name in the report.
        out: the file, which ends in .png, .pdf or .svg.
        models: names of some; all when left out.
        methods: names of some; all when left out.
    """
    from robustcls.explanation.reports.figure import export_figure

    print(export_figure(folder, image, out, models=models, methods=methods))


def _explain(values: Namespace) -> None:
    flags = values.as_dict()
    flags.pop("config", None)
    spreading = take_spreading(flags)
    if spreading is None:
        explain_models(**flags)
        return
    from robustcls.explanation.reports.sharing import (
        explain_shared,
        explanation_folder,
        explanation_work,
    )

    path, data, out, settings = _arguments(**flags)
    work = explanation_work(path, data, settings, out)
    elsewhere = functools.partial(explanation_work, path, data, settings, out)
    spreading.measure(work, elsewhere, resume=False)
    folder = explanation_folder(path, out)
    write_json(folder / SETTINGS, flags)
    if spreading.shard is not None:
        print(folder)
        return
    print(explain_shared(path, data, settings, out, work).path)


def merge_explanations(run: str, out: str | None, folders: list[str]) -> None:
    """Join what the shards of an explanation found out.

    Args:
        run: as the shards were given it.
        out: as the shards were given it.
        folders: copies of the folders that they named.
    """
    from robustcls.explanation.reports.sharing import (
        explain_shared,
        explanation_folder,
        explanation_work,
    )

    places = [explanation_folder(run, out), *map(Path, folders)]
    kept = next((place / SETTINGS for place in places if (place / SETTINGS).is_file()), None)
    if kept is None:
        raise InputError(f"run must hold the results of shards; {places[0]} holds none.")
    path, data, out, settings = _arguments(**read_json(kept) | {"run": run, "out": out})
    work = explanation_work(path, data, settings, out)
    require_shards(work, folders)
    print(explain_shared(path, data, settings, out, work).path)


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
    masks: str | None = None,
    beside: tuple[str, ...] = (),
    show_classes: bool = False,
    show_neighbors: bool = False,
    show_counterfactuals: bool = False,
    show_concepts: bool = False,
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
        masks: a folder of pictures with the names of the images, any value but 0 where what counts
            is: maps are measured by whether they are there.
        beside: .keras files or runs to show beside the others, of the same images.
        show_classes: also make the images that each model takes for a class most, those of all
            models side by side.
        show_neighbors: also show the training images of the run that are most like each image to
            the model.
        show_counterfactuals: also look for the smallest change of each image to the likeliest other
            class.
        show_concepts: also take the feature maps of the commonest classes apart, and say what each
            part counts before and after the attack.
        batch_size: images a forward pass.
        seed: seed of everything random.
        data: images for a model file, as for training.
        input_range: what a model file wants 0 and 1 to be, for example 0 255; epsilon stays in
            [0, 1].
        output: which output of a model file to explain, by name or number.
        skip_bad_images: leave unreadable files of --images or --data out.
    """
    path, where, folder, settings = _arguments(**locals())
    from robustcls.explanation.reports.runs import explain_model_file, explain_run

    if where is None:
        print(explain_run(path, out=folder, **settings).path)
    else:
        print(explain_model_file(path, where, out=folder, **settings).path)


def _arguments(
    *,
    run: str,
    data: str | None,
    out: str | None,
    attack: str,
    epsilon: float,
    norm: str,
    steps: int,
    images: Sequence[str],
    input_range: Sequence[float] | None,
    output: str | None,
    skip_bad_images: bool,
    **settings: Any,
) -> tuple[str, str | None, str | None, dict[str, Any]]:
    """Returns what is explained, the images of a file, the folder, and all other settings."""
    from robustcls.explanation.reports.report import DEFAULT_METHODS

    check_choice("attack", attack, ("none", *ATTACKS))
    ball = {"epsilon": epsilon, "norm": norm, "seed": settings["seed"], "steps": steps}
    settings |= {
        "attack": None if attack == "none" else ATTACKS[attack].from_settings(ball),
        "methods": tuple(settings["methods"]) or DEFAULT_METHODS,
        "progress": sys.stderr.isatty(),
        "skip_bad_images": skip_bad_images,
        "beside": tuple(settings["beside"]),
    }
    own: dict[str, Any] = {"input_range": input_range, "output": output}
    if Path(run).is_file():
        if data is None:
            raise InputError(f"data must name the images for the model {run}; received none.")
        if images:
            raise InputError(f"images are for a run; {run} is a model, whose images data names.")
        return run, data, out, settings | own
    for flag, value in {"data": data, **own}.items():
        if value is not None:
            raise InputError(f"{flag} is for a .keras file; {run} is none. Received {value!r}.")
    if skip_bad_images and not images:
        raise InputError(
            f"skip_bad_images is for --images and for a .keras file; the run {run} knows its own."
        )
    return run, None, out, settings | {"images": tuple(images)}
