"""`robustcls familiarity`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from rich.console import Console
from rich.table import Table

from robustcls._command_line import Runners, first_line, function_parser, list_names
from robustcls._validation import InputError, check_choice
from robustcls.attacks.registry import ATTACKS
from robustcls.familiarity.registry import METHODS


def add_commands(commands: Any) -> Runners:
    """Adds `familiarity`; returns what runs it."""
    made = function_parser(judge_models)
    list_names(made, Methods=METHODS, Attacks=ATTACKS)
    commands.add_subcommand("familiarity", made, help=first_line(made.description))
    return {"familiarity": _judge}


def _judge(values: Namespace) -> None:
    judge_models(**values.as_dict())


def judge_models(
    run: str,
    methods: tuple[str, ...] = (),
    far: tuple[str, ...] = ("noise", "flat"),
    near: tuple[str, ...] = (),
    false_alarm_rate: float = 0.05,
    attack: str = "none",
    epsilon: float = 8 / 255,
    norm: str = "inf",
    steps: int = 20,
    attack_limit: int = 200,
    limit: int | None = 1000,
    batch_size: int = 128,
    seed: int = 0,
    data: str | None = None,
    out: str | None = None,
    input_range: tuple[float, float] | None = None,
    output: str | None = None,
    skip_bad_images: bool = False,
) -> None:
    """Fit what tells images like the training images from others, and measure it.

    Takes a run, or a .keras file with --data. Keeps the first method beside each model, where
    `robustcls export` finds it, and writes familiarity.html and tables into the run's report.

    Args:
        run: a run, or a .keras file.
        methods: the first is kept, all are measured; all there are when left out, vim first.
        far: unfamiliar sets of another kind: noise, flat (images of one colour), or names and
            folders as for --data, whose test images are taken.
        near: unfamiliar sets of classes like those of the training.
        false_alarm_rate: share of images like the training images that may be refused.
        attack: on the score, which makes unfamiliar images pass and known ones be refused.
        epsilon: radius of the attack for images in [0, 1].
        norm: of the attack, inf or 2.
        steps: steps of PGD; the others take their published number.
        attack_limit: images of each set that are attacked.
        limit: test images, and images of each set, at most.
        batch_size: images a forward pass.
        seed: seed of everything random.
        data: for a model file, the images that it was trained on.
        out: for a model file, the folder of the results; NAME-familiarity beside it when left out.
        input_range: what a model file wants 0 and 1 to be, for example 0 255.
        output: which output of a model file to take, by name or number.
        skip_bad_images: leave unreadable files of --far, --near and --data out and list them.
    """
    check_choice("attack", attack, ("none", *ATTACKS))
    ball = {"epsilon": epsilon, "norm": norm, "seed": seed, "steps": steps}
    settings: dict[str, Any] = {
        "methods": methods,
        "far": far,
        "near": near,
        "false_alarm_rate": false_alarm_rate,
        "attack": None if attack == "none" else ATTACKS[attack].from_settings(ball),
        "attack_limit": attack_limit,
        "limit": limit,
        "batch_size": batch_size,
        "seed": seed,
        "progress": sys.stderr.isatty(),
        "skip_bad_images": skip_bad_images,
    }
    from robustcls.familiarity.runs import judge_model_file, judge_run

    own = {"data": data, "out": out, "input_range": input_range, "output": output}
    if Path(run).is_file() or (Path(run) / "saved_model.pb").is_file():
        if data is None:
            raise InputError(f"data must name the images of the model {run}; received none.")
        written = judge_model_file(
            run, data, out=out, input_range=input_range, output=output, **settings
        )
    else:
        for flag, value in own.items():
            if value is not None:
                raise InputError(f"{flag} is for a .keras file; {run} is none. Received {value!r}.")
        written = judge_run(run, **settings)
    console = Console()
    for judged in written.judged:
        report = judged.report
        table = Table(*report.head, title=f"{judged.name}: {report.brief().line}")
        for row in report.rows:
            table.add_row(*row)
        console.print(table)
        for words in report.findings:
            console.print(words, highlight=False)
    for words in written.left_out:
        print(words, file=sys.stderr)
    print(written.page)
