"""Files that are written whole or not at all, and that say when they are damaged."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from robustcls._validation import InputError

#: What `atomic` writes into, beside the file; a killed process leaves one.
WRITING = ".writing-"
_SEAL = "sha256"


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
        folder = Path(tempfile.mkdtemp(prefix=WRITING, dir=path.parent))
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
        InputError: it is missing or not JSON, which has no NaN and no infinity.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        return json.loads(text, parse_constant=_refuse)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} must be JSON; {error}. It is damaged.") from None


def write_sealed(path: Path | str, value: Mapping[str, Any]) -> dict[str, Any]:
    """Writes a JSON object with its own SHA-256 in it, whole or not at all.

    Args:
        path: the file.
        value: JSON-serializable, without NaN.

    Returns:
        What is in the file.

    Raises:
        InputError: the file cannot be written.
    """
    content: dict[str, Any] = json.loads(json.dumps(dict(value), allow_nan=False))
    content.pop(_SEAL, None)
    content[_SEAL] = _digest(content)
    write_json(path, content)
    return content


def read_sealed(
    path: Path | str, check: Callable[[dict[str, Any]], None] | None = None
) -> dict[str, Any]:
    """Reads what `write_sealed` wrote, or a JSON object of before there were seals.

    Args:
        path: the file.
        check: raises for an object of another kind, which need have no seal of ours (default None).

    Returns:
        The object without its seal. A key that it lacks is an `InputError`, in the objects inside
        too.

    Raises:
        InputError: it is missing, no JSON object, or other than what was written.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} must be a JSON object; received {type(content).__name__}.")
    seal = content.pop(_SEAL, None)
    if check is not None:
        check(content)
    if seal is not None and seal != _digest(content):
        raise InputError(
            f"{path} must be as it was written; its SHA-256 is another. It is damaged, or was "
            f'edited: remove "{_SEAL}" from it if that was meant.'
        )
    return _kept(content, path)


def write_arrays(path: Path | str, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an `.npz` file with its own SHA-256 in it, whole or not at all.

    Args:
        path: the file.
        arrays: by name; none may be objects.

    Raises:
        InputError: the file cannot be written.
    """
    seal = np.array(_digest_of_arrays(arrays))
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **{**arrays, _SEAL: seal})  # type: ignore[arg-type]


def read_arrays(path: Path | str) -> dict[str, np.ndarray]:
    """Reads what `write_arrays` wrote, or an `.npz` file of before there were seals.

    Args:
        path: the file.

    Raises:
        InputError: it is missing or damaged.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
    except Exception as error:  # a damaged archive may raise about anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path} is damaged ({reason}).") from None
    seal = arrays.pop(_SEAL, None)
    if seal is not None and str(seal) != _digest_of_arrays(arrays):
        raise InputError(f"{path} is damaged (its SHA-256 is another).")
    return arrays


def remove_unfinished(folder: Path) -> None:
    """Removes what killed processes left half written in a folder that nobody else writes in.

    Args:
        folder: looked through at any depth.
    """
    for path in folder.rglob(f"{WRITING}*"):
        shutil.rmtree(path, ignore_errors=True)


class _Kept(dict[str, Any]):
    """An object of a file of ours, which says the file where something is missing."""

    path: Path | str = ""

    def __missing__(self, key: str) -> NoReturn:
        raise InputError(f"{self.path} must hold {key}; it is missing. The file is damaged.")

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


def _kept(value: Any, path: Path | str) -> Any:
    if isinstance(value, list):
        return [_kept(each, path) for each in value]
    if not isinstance(value, dict):
        return value
    kept = _Kept({key: _kept(each, path) for key, each in value.items()})
    kept.path = path
    return kept


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"it holds {constant}")


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _digest_of_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
