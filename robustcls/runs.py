"""The run folder, and files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from robustcls._validation import InputError, check_choice

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


@contextlib.contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Yields a temporary file name beside `path` that replaces `path` when the block succeeds.

    When the block raises, or the process is killed, `path` stays as it was.

    Args:
        path: what the file will be called.

    Raises:
        InputError: the file cannot be written, for example on a full disk.
    """
    path = Path(path)
    folder = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".writing-", dir=path.parent))
        yield folder / path.name
        with open(folder / path.name, "rb") as file:
            os.fsync(file.fileno())
        os.replace(folder / path.name, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"{path} cannot be written: {reason}. The previous file, if any, is unchanged."
        ) from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def write_text(path: Path | str, text: str) -> None:
    """Writes UTF-8 text to `path`, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Writes `value` as indented JSON to `path`, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Reads a JSON file.

    Raises:
        InputError: it is missing or not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist.") from None
    except ValueError as error:
        raise InputError(f"{path} must be JSON; {error}.") from None


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
        self.config: dict[str, Any] = read_json(self.path / CONFIG)

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
        if resume and overwrite:
            raise InputError("resume and overwrite exclude each other; received both.")
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            if not (path / CONFIG).is_file():
                raise InputError(f"out must be a new folder or a run; {path} is neither.")
            if resume:
                run = cls(path)
                for key in config.keys() - {"versions"}:
                    _check_same(run.config.get(key), config[key], key)
                return run
            if not overwrite:
                raise InputError(
                    f"out must be a new folder; {path} holds a run. Add --resume to go on with "
                    "it, or --overwrite to delete it and start again."
                )
            shutil.rmtree(path)
        write_json(path / CONFIG, config)
        return cls(path)

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
