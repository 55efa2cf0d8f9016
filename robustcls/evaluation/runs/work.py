"""What is measured of a run, in pieces that shards and other machines can share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from robustcls.distribution.parts import Ledger
from robustcls.distribution.work import Piece, Work
from robustcls.evaluation.runs.bounds import BOUNDS_PARTS, BoundsConfig, bounds_piece
from robustcls.evaluation.runs.certification import CERTIFICATION_PARTS, certification_pieces
from robustcls.evaluation.runs.comparison import EVALUATION_PARTS
from robustcls.evaluation.runs.config import EvaluationConfig
from robustcls.evaluation.runs.models import ModelsAndImages, find_models
from robustcls.evaluation.runs.plan import EvaluationPlan, depends_on
from robustcls.evaluation.smoothing.config import SmoothingConfig
from robustcls.reports.evaluations import evaluation_folder

Config = EvaluationConfig | SmoothingConfig | BoundsConfig


def work_of(evaluated: ModelsAndImages, config: Config, *, progress: bool = False) -> Work:
    """Returns what a configuration asks for.

    `evaluate_models`, `certify_models` and `certify_models_by_bounds` make their files of the
    results, with `resume`, as if they had measured everything themselves.

    Args:
        evaluated: the models and the images, with the folder of the results.
        config: what to measure.
        progress: show progress bars within pieces (bool, default False).

    Raises:
        InputError: a setting is unusable.
    """
    if isinstance(config, EvaluationConfig):
        folder, pieces = EVALUATION_PARTS, _evaluation_pieces(evaluated, config, progress)
    elif isinstance(config, SmoothingConfig):
        folder = CERTIFICATION_PARTS
        pieces = [
            piece
            for stored in evaluated.models
            for piece in certification_pieces(evaluated, stored, config)
        ]
    else:
        folder = BOUNDS_PARTS
        pieces = [bounds_piece(evaluated, stored, config) for stored in evaluated.models]
    return Work(Ledger(evaluated.folder / folder, reuse=True), pieces, in_words=_accuracy)


def open_work(where: Mapping[str, Any], config: Config, evaluation: str | None) -> Work:
    """Returns the work of a command, in another process.

    Args:
        where: the arguments of `find_models`.
        config: what to measure.
        evaluation: the name of the evaluation; None for a certification.

    Raises:
        InputError: the models or the images are not to be had here.
    """
    evaluated = find_models(**where)
    if evaluation is not None:
        folder = evaluation_folder(evaluated.folder, evaluation)
        evaluated = dataclasses.replace(evaluated, folder=folder, evaluation=evaluation)
    return work_of(evaluated, config)


def _evaluation_pieces(
    evaluated: ModelsAndImages, config: EvaluationConfig, progress: bool
) -> list[Piece]:
    plans = [EvaluationPlan(evaluated, stored, config, progress) for stored in evaluated.models]
    return [
        Piece(plan.stored.name, part.name, depends_on(evaluated, plan, part), part.measure)
        for plan in plans
        for part in plan.parts
    ]


def _accuracy(result: dict[str, Any]) -> str:
    found = result.get("measurement")
    return f"accuracy {100 * found['accuracy']:.1f} %" if found else ""
