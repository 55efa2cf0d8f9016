"""Models that are shown beside those of a run, or beside a file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robustcls._validation import InputError
from robustcls.classifiers.adapters import adapt
from robustcls.classifiers.loading import open_model
from robustcls.runs import Run


def models_beside(paths: Sequence[str], taken: Sequence[str], **settings: Any) -> dict[str, Any]:
    """Returns models by names that tell them apart.

    Args:
        paths: of `.keras` files, or runs, whose last trained model is meant.
        taken: names that others have.
        **settings: of `adapt`; None for what is not asked for.

    Raises:
        InputError: one cannot be loaded.
    """
    names = names_beside(paths, taken)
    asked = any(value is not None for value in settings.values())
    opened = [adapt(Path(path), **settings) if asked else open_model(path) for path in paths]
    return dict(zip(names, opened, strict=True))


def names_beside(paths: Sequence[str], taken: Sequence[str]) -> list[str]:
    """Returns a name for each model: the file's or run's, with its folder's where it is taken.

    Args:
        paths: as for `models_beside`.
        taken: names that others have.

    Raises:
        InputError: a model is named twice.
    """
    names: list[str] = []
    for path in map(Path, paths):
        own, folder = path.resolve().stem, path.resolve().parent.name
        free = [n for n in (own, f"{folder}-{own}") if n not in (*taken, *names)]
        if not free:
            raise InputError(f"beside must name each model once; received {path} again.")
        names.append(free[0])
    return names


def digests_beside(paths: Sequence[str]) -> list[str]:
    """Returns what changes with the models.

    Args:
        paths: as for `models_beside`.

    Raises:
        InputError: there is no such file or run.
    """
    return [hashlib.sha256(_file(Path(path)).read_bytes()).hexdigest() for path in paths]


def _file(path: Path) -> Path:
    if path.is_dir():
        run = Run.open(path)
        run.require_trained()
        return run.folder(run.trained[-1]) / "model.keras"
    if not path.is_file():
        raise InputError(f"beside must name .keras files or runs; {path} is neither.")
    return path
