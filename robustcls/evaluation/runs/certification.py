"""Certifies models side by side: `certification.json`, a chart and a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import keras
from rich.console import Console
from rich.table import Table

from robustcls.evaluation.reports.charts import write_chart
from robustcls.evaluation.runs.models import ModelsAndImages, StoredModel
from robustcls.evaluation.runs.parts import Ledger
from robustcls.evaluation.smoothing.config import SmoothingConfig
from robustcls.evaluation.smoothing.randomized import certify, radius_of
from robustcls.reports.evaluations import link_pages
from robustcls.runs import versions, write_json

CERTIFICATION = "certification.json"
_POINTS = 60


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
        InputError: a model does not fit the images.
    """
    config = config or SmoothingConfig()
    ledger = Ledger(evaluated.folder / "certification", reuse=resume)
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
        depends_on = {
            "settings": dataclasses.asdict(config),
            "model": stored.digest,
            "data": evaluated.fingerprint,
        }
        measure = partial(_measure, evaluated, stored, config, progress)
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


def _measure(
    evaluated: ModelsAndImages,
    stored: StoredModel,
    config: SmoothingConfig,
    progress: bool,
    state: Path,
) -> dict[str, Any]:
    certified = certify(
        stored.load(),
        evaluated.test,
        config,
        checkpoint=state / "images.json",
        progress=progress,
    )
    largest = radius_of(config.samples, config.samples, config.sigma, config.alpha)
    radii = [largest * step / _POINTS for step in range(_POINTS + 1)]
    return {
        "count": len(certified.labels),
        "abstained": certified.abstained,
        "certified_accuracy": [[radius, certified.accuracy(radius)] for radius in radii],
        "labels": certified.labels.tolist(),
        "predicted": certified.predicted.tolist(),
        "radius": certified.radius.tolist(),
    }
