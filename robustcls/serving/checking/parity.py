"""Does an export answer what the model answered? Asked in a process that has only TensorFlow."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from robustcls._validation import InputError
from robustcls.runs import read_json, write_json
from robustcls.serving.exports.archive import check_graph, version_folders
from robustcls.serving.exports.cases import CASES_FILE
from robustcls.serving.exports.warmup import read_warmup

#: Largest difference of an output, over the largest value of that output or 1.
TOLERANCE = 1e-5
_SCRIPT = Path(__file__).with_name("fresh_process.py")


def check_export(folder: Path | str) -> list[dict[str, Any]]:
    """Compares a version with the model that it was exported from.

    A fresh Python process without Keras and without this package loads the SavedModel and answers
    the cases that the export kept, for one image, an odd number and all, twice.

    Args:
        folder: of a version, or of a model, whose newest version is taken.

    Returns:
        The checks: `check`, `passed`, `detail`.

    Raises:
        InputError: no export, or one without cases, or one that TensorFlow cannot load.
    """
    folder = newest_version(Path(folder))
    if not (folder / CASES_FILE).is_file():
        raise InputError(f"folder must be an export of this package; {folder} has no {CASES_FILE}.")
    checks = [_graph_check(folder)]
    with tempfile.TemporaryDirectory() as temporary:
        answers = Path(temporary) / "answers.json"
        warmup = Path(temporary) / "warmup"
        checks.append(_unpack_warmup(folder, warmup))
        command = [sys.executable, "-I", _SCRIPT, folder, CASES_FILE, warmup, answers]
        done = subprocess.run(
            [*map(str, command), str(TOLERANCE)], capture_output=True, text=True, errors="replace"
        )
        if done.returncode != 0 or not answers.is_file():
            lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
            raise InputError(f"{folder} cannot be loaded by TensorFlow; {lines[-1][:300]}.")
        checks += read_json(answers)
    return checks


def newest_version(folder: Path) -> Path:
    """Returns the newest version in a model's folder, or `folder` if it is a version itself.

    Raises:
        InputError: neither.
    """
    if not folder.is_dir():
        raise InputError(f"folder must be an export; {folder} does not exist.")
    if (folder / "saved_model.pb").is_file():
        return folder
    found = version_folders(folder)
    if not found:
        raise InputError(
            f"folder must be an export; {folder} has no version folder like {folder / '1'}."
        )
    return found[max(found)]


def print_checks(checks: list[dict[str, Any]], console: Console | None = None) -> None:
    """Prints a table of the checks."""
    table = Table("check", "result", "detail")
    for check in checks:
        table.add_row(check["check"], "ok" if check["passed"] else "FAILED", check["detail"])
    (console or Console()).print(table)


def _graph_check(folder: Path) -> dict[str, Any]:
    try:
        check_graph(folder)
    except InputError as error:
        return {"check": "graph", "passed": False, "detail": str(error)}
    return {"check": "graph", "passed": True, "detail": "nothing random, no XLA"}


def _unpack_warmup(folder: Path, target: Path) -> dict[str, Any]:
    """Parses the warm-up requests, for which the fresh process has no protos, into arrays."""
    target.mkdir()
    names = []
    try:
        for place, (signature, inputs) in enumerate(read_warmup(folder)):
            arrays = {
                key: np.asarray(value.tolist()) if value.dtype == object else value
                for key, value in inputs.items()
            }
            np.savez(target / f"{place}.npz", **arrays)  # type: ignore[arg-type]
            names.append(signature)
    except Exception as error:  # whatever TensorFlow and protobuf raise on damaged records
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return {"check": "warm-up requests", "passed": False, "detail": reason}
    write_json(target / "signatures.json", names)
    detail = f"{len(names)} requests for {len(set(names))} signatures"
    return {"check": "warm-up requests", "passed": bool(names), "detail": detail}
