"""What an export must answer: inputs and answers of the model, kept with each version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

#: Within a version: inputs and answers of the model before its export.
CASES_FILE = Path("assets.extra") / "cases.npz"


@dataclass(frozen=True)
class Case:
    """Inputs of a signature and the outputs that they must give, arrays [N, ...] by name."""

    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]


def write_cases(folder: Path, cases: Mapping[str, Case]) -> None:
    """Writes the cases, by signature, into the folder of a version."""
    arrays = {
        f"{signature}/{side}/{key}": np.asarray(value.tolist()) if value.dtype == object else value
        for signature, case in cases.items()
        for side, named in (("inputs", case.inputs), ("outputs", case.outputs))
        for key, value in named.items()
    }
    np.savez_compressed(folder / CASES_FILE, **arrays)  # type: ignore[arg-type]
