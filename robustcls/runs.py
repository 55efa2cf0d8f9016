"""The run folder; what is in it is written by `robustcls.files`."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import platform
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from robustcls._locks import LOCK, locked
from robustcls._validation import InputError, check_choice
from robustcls.files import WRITING, read_sealed, remove_unfinished, write_sealed
from robustcls.files import atomic as atomic
from robustcls.files import read_json as read_json
from robustcls.files import write_json as write_json
from robustcls.files import write_text as write_text

CONFIG = "config.json"
METRICS = "metrics.json"
_PACKAGES = (
    "robustcls",
    "tensorflow",
    "keras",
    "keras-cv",
    "neural-structured-learning",
    "tensorflow-datasets",
    "numpy",
)


def versions() -> dict[str, str]:
    """Returns the versions that decide a result: Python's and the libraries'."""
    return dict(_versions())


@functools.cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


class Run:
    """A folder with everything one training left behind.

    `config.json` holds the settings, `NAME/` one model each (`model.keras`, `checkpoints/`,
    `history.csv`, `tensorboard/`), `metrics.json` and `report/` the evaluation.

    Args:
        path: an existing run folder.

    Raises:
        InputError: there is no run at `path`.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise InputError(f"run must be a run folder; {self.path} does not exist.")
        if not (self.path / CONFIG).is_file():
            raise InputError(f"run must be a run folder; {self.path} holds no {CONFIG}.")
        self.config: dict[str, Any] = read_sealed(self.path / CONFIG)

    @classmethod
    def create(
        cls,
        path: Path | str,
        config: Mapping[str, Any],
        *,
        resume: bool = False,
        overwrite: bool = False,
    ) -> Run:
        """Makes the folder, or opens it again to go on.

        Args:
            path: the folder; its parents are made too.
            config: what decides the run's result, JSON-serializable.
            resume: go on with an interrupted run of the same config.
            overwrite: delete a run that is there already.

        Raises:
            InputError: the folder exists and neither flag allows that, it is no run, or its
                config differs.
        """
        path = Path(path)
        config = json.loads(json.dumps(config))
        if not _is_new(path, resume=resume, overwrite=overwrite):
            if resume:
                run = cls(path)
                for key in config.keys() - {"versions"}:
                    _check_same(run.config.get(key), config[key], key)
                return run
            _empty(path)
        write_sealed(path / CONFIG, config)
        return cls(path)

    @classmethod
    @contextlib.contextmanager
    def creating(
        cls,
        path: Path | str,
        config: Mapping[str, Any],
        *,
        resume: bool = False,
        overwrite: bool = False,
    ) -> Iterator[Run]:
        """As `create`, and no other process gets into the folder during the block.

        Args:
            path: the folder; its parents are made too.
            config: what decides the run's result, JSON-serializable.
            resume: go on with an interrupted run of the same config.
            overwrite: delete a run that is there already.

        Raises:
            InputError: as for `create`, or the folder is in use.
        """
        path = Path(path)
        _is_new(path, resume=resume, overwrite=overwrite)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror or error}.") from error
        with locked(path):
            run = cls.create(path, config, resume=resume, overwrite=overwrite)
            remove_unfinished(path)
            yield run

    @classmethod
    def open(cls, run: Run | Path | str) -> Run:
        """Returns a run as it is, or the one in a folder.

        Raises:
            InputError: there is no run at the path.
        """
        return run if isinstance(run, Run) else cls(run)

    @staticmethod
    def is_at(path: Path | str) -> bool:
        """Whether there is a run in the folder `path`."""
        return (Path(path) / CONFIG).is_file()

    @property
    def identity(self) -> str:
        """Hex SHA-256 of all that decides the run's result, so not of the versions."""
        deciding = {key: self.config[key] for key in self.config.keys() - {"chosen", "versions"}}
        return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()

    def folder(self, model: str) -> Path:
        """The folder of one model of the run, for example `base`."""
        return self.path / model

    @property
    def trained(self) -> list[str]:
        """The names of the models whose training has ended, the reference first."""
        return self._trained()

    def require_trained(
        self,
        model: str | None = None,
        *,
        kind: str = "model",
        folder: str = "*",
        file: str = "model.keras",
    ) -> str:
        """Returns the name of a model whose training has ended.

        Args:
            model: one of the run's; None takes the last of `trained`, so `adversarial` before
                `base`.
            kind: what the model is, for the message: "model", "classifier", "detector".
            folder: a pattern of the models' folders in the run.
            file: in a model's folder, the one that is written last.

        Raises:
            InputError: no model is trained, or not that one.
        """
        names = self._trained(folder, file)
        if not names:
            raise InputError(
                f"run must hold a trained {kind}; {self.path} holds none. Was its training "
                "interrupted? Go on with --resume."
            )
        return names[-1] if model is None else check_choice("model", model, names)

    def _trained(self, folder: str = "*", file: str = "model.keras") -> list[str]:
        names = sorted(path.parent.name for path in self.path.glob(f"{folder}/{file}"))
        return sorted(names, key=lambda name: name != "base")


def _is_new(path: Path, *, resume: bool, overwrite: bool) -> bool:
    """Whether a run may be made at `path`; a run that is there must be asked for or given up."""
    if resume and overwrite:
        raise InputError("resume and overwrite exclude each other; received both.")
    if not path.exists() or (path.is_dir() and not _content(path)):
        return True
    if not (path / CONFIG).is_file():
        raise InputError(f"out must be a new folder or a run; {path} is neither.")
    if not (resume or overwrite):
        raise InputError(
            f"out must be a new folder; {path} holds a run. Add --resume to go on with "
            "it, or --overwrite to delete it and start again."
        )
    return False


def _content(path: Path) -> list[Path]:
    """What is in a folder, without what a process killed at its very beginning leaves."""
    return [p for p in path.iterdir() if p.name != LOCK and not p.name.startswith(WRITING)]


def _empty(path: Path) -> None:
    """Deletes what is in a run but for its configuration, which is replaced in one step.

    So a folder with a part of a run is a run until the next one begins.
    """
    for entry in _content(path):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != CONFIG:
            entry.unlink()


def _check_same(old: Any, new: Any, key: str) -> None:
    """Refuses to resume with settings that would give another result."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            _check_same(old.get(name), new.get(name), f"{key}.{name}")
    elif old != new:
        raise InputError(
            f"{key} must stay {old!r} to resume the run; received {new!r}. "
            "Start a new run for new settings."
        )
