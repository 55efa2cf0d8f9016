"""`Servable`: all that one export is made of, and `write_export`, which writes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from robustcls.runs import write_json
from robustcls.serving.exports.archive import write_version
from robustcls.serving.exports.cases import Case, write_cases
from robustcls.serving.exports.configuration import BATCH_SIZES, check_name, write_configuration
from robustcls.serving.exports.conversion_cost import COMPARISON
from robustcls.serving.exports.endpoints import Endpoint
from robustcls.serving.exports.model_card import ModelCard, write_card
from robustcls.serving.exports.warmup import write_warmup


@dataclass(frozen=True, kw_only=True)
class Servable:
    """What is served and what it must answer.

    Attributes:
        endpoints: the signatures.
        tables: the look-up tables that they use.
        cases: for each signature, inputs and the answers of the model before its export.
        card: what the model card says.
        compare: measures a written version beside float32, for the card.
    """

    endpoints: tuple[Endpoint, ...]
    tables: tuple[tf.lookup.StaticHashTable, ...]
    cases: Mapping[str, Case]
    card: ModelCard
    compare: Callable[[Path], dict[str, Any]] | None = None


def write_export(
    servable: Servable, out: Path | str, *, name: str, version: int | None = None
) -> Path:
    """Writes a version with its warm-up requests, test cases and card, and the configuration.

    Args:
        servable: what to write.
        out: the model's folder.
        name: the model's name in requests.
        version: its number; None takes the next.

    Returns:
        The folder of the version.

    Raises:
        InputError: an unusable name, the version exists, or `out` cannot be written.
    """
    check_name(name)
    rows: dict[str, np.ndarray] = {}
    for case in servable.cases.values():
        rows |= {key: _warmup_row(value) for key, value in case.inputs.items()}

    def finish(folder: Path) -> None:
        write_warmup(folder, name, servable.endpoints, rows, BATCH_SIZES)
        write_cases(folder, servable.cases)
        card = servable.card
        if servable.compare is not None:
            card = replace(card, comparison=servable.compare(folder))
            write_json(folder / COMPARISON, card.comparison)
        write_card(folder, name, card)

    written = write_version(out, servable.endpoints, servable.tables, finish, version)
    write_configuration(Path(out), name)
    return written


def _warmup_row(values: np.ndarray) -> np.ndarray:
    """One row of an input; of images an even gray, which a request can hold as one number."""
    row = np.array(values[:1])
    return np.full_like(row, 0.5) if row.dtype == np.float32 and row.ndim == 4 else row
