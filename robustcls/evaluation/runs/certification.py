"""Certifies models side by side: `certification.json`, a chart and a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

from robustcls._locks import locked
from robustcls._progress import tqdm
from robustcls.distribution.parts import Ledger
from robustcls.distribution.work import Piece
from robustcls.evaluation.prediction import subset
from robustcls.evaluation.reports.charts import write_chart
from robustcls.evaluation.runs.models import ModelsAndImages, StoredModel
from robustcls.evaluation.smoothing.config import SmoothingConfig
from robustcls.evaluation.smoothing.randomized import Certification, certify, radius_of
from robustcls.reports.evaluations import link_pages
from robustcls.runs import versions, write_json

CERTIFICATION = "certification.json"
CERTIFICATION_PARTS = "certification"
_POINTS = 60
# A piece of that many images takes minutes.
_IMAGES = 50


def certify_models(
    evaluated: ModelsAndImages,
    config: SmoothingConfig | None = None,
    *,
    resume: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Certifies every model on the test images.

    Writes `certification.json` and `report/certified_accuracy.svg`. What was found is kept in
    `certification/` as it goes.

    Args:
        evaluated: the models and the images.
        config: sigma, draws and so on; the defaults if None.
        resume: go on with a certification that was stopped.
        progress: show bars.

    Returns:
        What `certification.json` holds: for each model the certified accuracy in [0, 1] over L2
        radii for images in [0, 1], the share of abstentions, and each image's radius.

    Raises:
        InputError: a model does not fit the images, or another process certifies there.
    """
    with locked(evaluated.folder, file=".certification.lock"):
        return _certify(evaluated, config or SmoothingConfig(), resume, progress)


def _certify(
    evaluated: ModelsAndImages, config: SmoothingConfig, resume: bool, progress: bool
) -> dict[str, Any]:
    ledger = Ledger(evaluated.folder / CERTIFICATION_PARTS, reuse=resume)
    found: dict[str, Any] = {
        "title": evaluated.title,
        "models": [stored.name for stored in evaluated.models],
        "settings": dataclasses.asdict(config),
        "largest_radius": radius_of(config.samples, config.samples, config.sigma, config.alpha),
        "trained_with_gaussian_noise": "gaussian" in evaluated.trained_on,
        "versions": versions(),
        "data_fingerprint": evaluated.fingerprint,
    }
    for stored in evaluated.models:
        measure = partial(_join, ledger, evaluated, stored, config, progress)
        depends_on = _depends_on(evaluated, stored, config)
        found[stored.name] = ledger.part(stored.name, "smoothing", depends_on, measure)
        keras.backend.clear_session()
    write_json(evaluated.folder / CERTIFICATION, found)
    write_chart(
        {name: found[name]["certified_accuracy"] for name in found["models"]},
        evaluated.folder / "report" / "certified_accuracy.svg",
        title="Certified accuracy over the radius",
        x_label=f"L2 radius, images in [0, 1] (sigma {config.sigma:g})",
        y_label="certified accuracy in %",
    )
    link_pages(evaluated.folder)
    return found


def print_certification(found: Mapping[str, Any], console: Console | None = None) -> None:
    """Prints certified accuracy at a few radii, a column for every model."""
    console = console or Console()
    settings = found["settings"]
    table = Table(title=f"Certified accuracy in % (sigma {settings['sigma']:g})")
    table.add_column("L2 radius")
    for model in found["models"]:
        table.add_column(model, justify="right")
    radii = [radius for radius, _ in found[found["models"][0]]["certified_accuracy"]]
    for place in range(0, len(radii), _POINTS // 6):
        row = [found[model]["certified_accuracy"][place][1] for model in found["models"]]
        table.add_row(f"{radii[place]:.3f}", *(f"{100 * accuracy:.1f}" for accuracy in row))
    abstained = [f"{100 * found[model]['abstained']:.1f}" for model in found["models"]]
    table.add_row("abstained", *abstained)
    console.print(table)
    if not found["trained_with_gaussian_noise"]:
        console.print("No Gaussian noise in training, as far as is known; smoothing needs it.")


def certification_pieces(
    evaluated: ModelsAndImages, stored: StoredModel, config: SmoothingConfig
) -> list[Piece]:
    """Returns what has to be measured of one model, some images in each piece.

    Args:
        evaluated: the images.
        stored: the model, which is loaded when the first piece is measured.
        config: sigma, draws and so on.
    """
    count = len(subset(len(evaluated.test), config.limit, config.seed))
    depends_on = _depends_on(evaluated, stored, config)
    load = cache(stored.load)
    return [
        Piece(
            stored.name,
            f"smoothing-{start:06d}",
            depends_on,
            partial(_measure, evaluated, load, config, slice(start, start + _IMAGES)),
        )
        for start in range(0, count, _IMAGES)
    ]


def _depends_on(
    evaluated: ModelsAndImages, stored: StoredModel, config: SmoothingConfig
) -> dict[str, Any]:
    return {
        "settings": dataclasses.asdict(config),
        "model": stored.digest,
        "data": evaluated.fingerprint,
    }


def _measure(
    evaluated: ModelsAndImages,
    load: Callable[[], Any],
    config: SmoothingConfig,
    chosen: slice,
    state: Path,
) -> dict[str, Any]:
    certified = certify(
        load(), evaluated.test, config, part=chosen, checkpoint=state / "images.json"
    )
    return {
        "labels": certified.labels.tolist(),
        "predicted": certified.predicted.tolist(),
        "radius": certified.radius.tolist(),
    }


def _join(
    ledger: Ledger,
    evaluated: ModelsAndImages,
    stored: StoredModel,
    config: SmoothingConfig,
    progress: bool,
    _: Path,
) -> dict[str, Any]:
    pieces = certification_pieces(evaluated, stored, config)
    parts = [
        ledger.part(piece.group, piece.name, piece.depends_on, piece.measure)
        for piece in tqdm(pieces, desc=f"certify {stored.name}", disable=not progress)
    ]
    joined = {name: [value for part in parts for value in part[name]] for name in parts[0]}
    certified = Certification(*map(np.array, joined.values()))
    largest = radius_of(config.samples, config.samples, config.sigma, config.alpha)
    radii = [largest * step / _POINTS for step in range(_POINTS + 1)]
    return {
        "count": len(certified.labels),
        "abstained": certified.abstained,
        "certified_accuracy": [[radius, certified.accuracy(radius)] for radius in radii],
        **joined,
    }
