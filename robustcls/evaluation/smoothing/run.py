"""Certifies models side by side: `certification.json`, a plot and a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import keras
from rich.console import Console
from rich.table import Table

from robustcls.evaluation.reports.curves import plot_accuracy
from robustcls.evaluation.runs.models import Candidate, Candidates
from robustcls.evaluation.runs.parts import Ledger
from robustcls.evaluation.smoothing.config import SmoothingConfig
from robustcls.evaluation.smoothing.randomized import certify, radius_of
from robustcls.runs import versions, write_json

CERTIFICATION = "certification.json"
_POINTS = 60


def certify_models(
    candidates: Candidates,
    config: SmoothingConfig | None = None,
    *,
    resume: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Certifies every model on the test images.

    Writes `certification.json` and `report/certified_accuracy.png`. What was found is kept in
    `certification/` as it goes.

    Args:
        candidates: the models and the images.
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
    ledger = Ledger(candidates.folder / "certification", reuse=resume)
    found: dict[str, Any] = {
        "title": candidates.title,
        "models": [candidate.name for candidate in candidates.models],
        "settings": dataclasses.asdict(config),
        "largest_radius": radius_of(config.samples, config.samples, config.sigma, config.alpha),
        "trained_with_gaussian_noise": "gaussian" in candidates.trained_on,
        "versions": versions(),
        "data_fingerprint": candidates.fingerprint,
    }
    for candidate in candidates.models:
        depends_on = {
            "settings": dataclasses.asdict(config),
            "model": candidate.digest,
            "data": candidates.fingerprint,
        }
        measure = partial(_measure, candidates, candidate, config, progress)
        found[candidate.name] = ledger.part(candidate.name, "smoothing", depends_on, measure)
        keras.backend.clear_session()
    write_json(candidates.folder / CERTIFICATION, found)
    plot_accuracy(
        {name: found[name]["certified_accuracy"] for name in found["models"]},
        x_label=f"L2 radius, images in [0, 1] (sigma {config.sigma:g})",
        y_label="certified accuracy in %",
        path=candidates.folder / "report" / "certified_accuracy.png",
        marker="",
    )
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
    candidates: Candidates,
    candidate: Candidate,
    config: SmoothingConfig,
    progress: bool,
    state: Path,
) -> dict[str, Any]:
    certified = certify(
        candidate.load(),
        candidates.test,
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
