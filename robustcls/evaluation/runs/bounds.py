"""What bounds certify of the models of a run: `bounds.json` and a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import keras
from rich.console import Console
from rich.table import Table

from robustcls._locks import locked
from robustcls._settings import (
    Choice,
    Epsilon,
    NonNegativeInt,
    PositiveInt,
    check_settings,
)
from robustcls._validation import InputError
from robustcls.bounds.certification import BOUNDS, certify_by_bounds
from robustcls.classifiers.classifier import Classifier
from robustcls.distribution.parts import Ledger
from robustcls.distribution.work import Piece
from robustcls.evaluation.intervals import measurement
from robustcls.evaluation.prediction import floats, subset
from robustcls.evaluation.runs.models import ModelsAndImages, StoredModel
from robustcls.runs import versions, write_json

BOUNDS_PARTS = "bounds"
RESULTS = "bounds.json"


@dataclass(frozen=True, kw_only=True)
class BoundsConfig:
    """How images are certified by bounds.

    Args:
        bound: "ibp" (intervals) or "crown" (a backward pass of lines, where that is tighter) ("ibp"
            or "crown", default "ibp").
        epsilon: radius of the L-infinity ball for images in [0, 1] (float in (0, 1],
            default 8/255).
        limit: certify a random subset of at most that many images; all when None (int >= 1 or None,
            default None).
        batch_size: images at a time (int >= 1, default 128).
        seed: of the subset (int >= 0, default 0).

    Raises:
        InputError: a setting is unusable.
    """

    bound: Annotated[str, Choice(BOUNDS)] = "ibp"
    epsilon: Epsilon = 8 / 255
    limit: PositiveInt | None = None
    batch_size: PositiveInt = 128
    seed: NonNegativeInt = 0

    def __post_init__(self) -> None:
        check_settings(self)


def certify_models_by_bounds(
    evaluated: ModelsAndImages, config: BoundsConfig, *, resume: bool = False
) -> dict[str, Any]:
    """Certifies the test images for every model, and writes `bounds.json`.

    Args:
        evaluated: the models and the images.
        config: the bound, its radius and so on.
        resume: keep the models that are done.

    Returns:
        What `bounds.json` holds: for each model the clean and the certified accuracy in [0, 1]
        with its 95 % interval.

    Raises:
        InputError: a model does not fit the images or has a layer that bounds do not know, or
            another process certifies there.
    """
    with locked(evaluated.folder, file=".bounds.lock"):
        return _certify(evaluated, config, resume)


def _certify(evaluated: ModelsAndImages, config: BoundsConfig, resume: bool) -> dict[str, Any]:
    settings = dataclasses.asdict(config)
    ledger = Ledger(evaluated.folder / BOUNDS_PARTS, reuse=resume)
    found: dict[str, Any] = {
        "title": evaluated.title,
        "models": [stored.name for stored in evaluated.models],
        "settings": settings,
        "versions": versions(),
        "data_fingerprint": evaluated.fingerprint,
    }
    for stored in evaluated.models:
        piece = bounds_piece(evaluated, stored, config)
        found[stored.name] = ledger.part(piece.group, piece.name, piece.depends_on, piece.measure)
        keras.backend.clear_session()
    write_json(evaluated.folder / RESULTS, found)
    return found


def bounds_piece(evaluated: ModelsAndImages, stored: StoredModel, config: BoundsConfig) -> Piece:
    """Returns what has to be measured of one model.

    Args:
        evaluated: the images.
        stored: the model.
        config: the bound, its radius and so on.
    """
    depends_on = {
        "settings": dataclasses.asdict(config),
        "model": stored.digest,
        "data": evaluated.fingerprint,
    }
    return Piece(stored.name, "bounds", depends_on, partial(_measure, evaluated, stored, config))


def print_bounds(found: Mapping[str, Any], console: Console | None = None) -> None:
    """Prints clean and certified accuracy, a column for every model."""
    settings = found["settings"]
    title = f"Accuracy in % ({settings['bound']}, L-infinity, epsilon {settings['epsilon']:.4g})"
    table = Table(title=title)
    table.add_column("images")
    for model in found["models"]:
        table.add_column(model, justify="right")
    for name in ("clean", "certified"):
        cells = [found[model][name] for model in found["models"]]
        table.add_row(
            name,
            *(
                f"{100 * cell['accuracy']:.1f} [{100 * cell['low']:.1f}, {100 * cell['high']:.1f}]"
                for cell in cells
            ),
        )
    (console or Console()).print(table)


def _measure(
    evaluated: ModelsAndImages, stored: StoredModel, config: BoundsConfig, state: Path
) -> dict[str, Any]:
    model = stored.load()
    if isinstance(model, Classifier) and model.graph is None:
        raise InputError(
            f"model must be a Keras model for bounds; {stored.name} is a SavedModel. "
            "Did you mean its .keras file?"
        )
    places = subset(len(evaluated.test), config.limit, config.seed)
    test = evaluated.test.take(places)
    margins = certify_by_bounds(
        model,
        floats(test.images),
        test.labels,
        epsilon=config.epsilon,
        bound=config.bound,
        batch_size=config.batch_size,
    )
    right = {
        "clean": int((margins.predicted == margins.labels).sum()),
        "certified": int(margins.certified.sum()),
    }
    return {
        name: dataclasses.asdict(measurement(name, count, len(test)))
        for name, count in right.items()
    } | {"certified_images": margins.certified.tolist()}
