"""An explanation in pieces, one model in each, that shards and other machines can share."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import importlib
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from robustcls._validation import InputError
from robustcls.data.files import named_files
from robustcls.distribution.parts import Ledger
from robustcls.distribution.work import Piece, Work
from robustcls.evaluation.runs.models import find_models
from robustcls.explanation.reports.given.beside import digests_beside, names_beside
from robustcls.explanation.reports.report import Explanations, Find
from robustcls.explanation.reports.results import ModelResults
from robustcls.explanation.reports.runs import explain_model_file, explain_run

_PARTS = "explanation_parts"


def explanation_work(
    path: str, data: str | None, settings: Mapping[str, Any], out: Path | str | None = None
) -> Work:
    """Returns what is to be found out for a report, one model in a piece.

    Every piece chooses the images anew, which takes the first model where `only` asks for it.

    Args:
        path: a run, or a `.keras` file.
        data: the images for a file.
        settings: of `explain_run` or `explain_model_file`, without `out`.
        out: the folder of the report; that of these functions when None (default None).

    Raises:
        InputError: there is no run or no file, or the images cannot be had.
    """
    of_a_file = () if data is None else ("input_range", "output", "skip_bad_images")
    own = {name: settings[name] for name in of_a_file if name in settings}
    found = find_models(path, data, **own)
    names = [stored.name for stored in found.models] if data is None else [Path(path).stem]
    beside = settings.get("beside") or ()
    names += names_beside(beside, names)
    pictures = named_files(settings.get("images") or ())
    depends_on = {
        "settings": json.loads(json.dumps(dict(settings), default=repr)),
        "models": [stored.digest for stored in found.models] + digests_beside(beside),
        "data": found.fingerprint,
        "pictures": [_digest(file) for file in pictures],
        "masks": [_digest(file) for file in _files_of(settings.get("masks"))],
    }
    del depends_on["settings"]["progress"]
    pieces = [
        Piece(name, "explanation", depends_on, partial(_measure, path, data, settings, name))
        for name in names
    ]
    return Work(Ledger(explanation_folder(path, out) / _PARTS, reuse=True), pieces)


def explain_shared(
    path: str, data: str | None, settings: Mapping[str, Any], out: Path | str | None, work: Work
) -> Explanations:
    """Writes the report of what the pieces of a work found.

    Args:
        path: as for `explanation_work`.
        data: as for `explanation_work`.
        settings: as for `explanation_work`.
        out: as for `explanation_work`.
        work: what `explanation_work` returns, with all results there.

    Raises:
        InputError: a result is damaged.
    """
    pieces = {piece.group: piece for piece in work.pieces}

    def results_of(name: str, find: Find) -> ModelResults:
        found: ModelResults = _decoded(work.do(pieces[name])["results"])
        return found

    return _explain(path, data, {**settings, "out": out, "results_of": results_of})


def explanation_folder(path: str, out: Path | str | None) -> Path:
    """Returns the folder of the report on a run or a model file.

    Args:
        path: of the run or the file.
        out: as it was asked for; None takes the usual one.
    """
    if out is not None:
        return Path(out)
    own = Path(path)
    return own / "report" if own.is_dir() else Path(f"{own.with_suffix('')}-explanation")


def _explain(path: str, data: str | None, arguments: Mapping[str, Any]) -> Explanations:
    if data is None:
        return explain_run(path, **arguments)
    return explain_model_file(path, data, **arguments)


def _measure(
    path: str, data: str | None, settings: Mapping[str, Any], wanted: str, state: Path
) -> dict[str, Any]:
    kept: dict[str, Any] = {}

    def results_of(name: str, find: Callable[[], ModelResults]) -> None:
        if name == wanted:
            kept["results"] = _encoded(find())

    _explain(path, data, {**settings, "out": state, "progress": False, "results_of": results_of})
    return kept


def _encoded(value: Any) -> Any:
    """Returns JSON for arrays, and for dataclasses of this package and what is in them."""
    if isinstance(value, np.ndarray):
        text = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
        return {"array": text, "dtype": value.dtype.str, "shape": list(value.shape)}
    if isinstance(value, np.generic):
        return value.item()
    if dataclasses.is_dataclass(value):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        kind = type(value)
        return {"class": [kind.__module__, kind.__qualname__], "fields": _encoded(fields)["dict"]}
    if isinstance(value, Mapping):
        return {"dict": [[_encoded(key), _encoded(each)] for key, each in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_encoded(each) for each in value]}
    return [_encoded(each) for each in value] if isinstance(value, list) else value


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "array" in value:
        pixels = np.frombuffer(base64.b64decode(value["array"]), np.dtype(value["dtype"]))
        return pixels.reshape(value["shape"]).copy()
    if "tuple" in value:
        return tuple(_decoded(value["tuple"]))
    if "dict" in value:
        return {_decoded(key): _decoded(each) for key, each in value["dict"]}
    module, name = value["class"]
    kind = None
    if module.split(".")[0] == "robustcls":
        kind = getattr(importlib.import_module(module), name, None)
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise InputError(f"results must be of this package; received a {module}.{name}.")
    return kind(**{_decoded(key): _decoded(each) for key, each in value["fields"]})


def _files_of(folder: str | None) -> list[Path]:
    return [] if folder is None else sorted(p for p in Path(folder).rglob("*") if p.is_file())


def _digest(file: Path) -> str:
    # One that is not there is named with all others when the pictures are read.
    return hashlib.sha256(file.read_bytes() if file.is_file() else b"").hexdigest()
