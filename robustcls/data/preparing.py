"""`prepare`: a TFDS set made ready, from upstream or from a package registry."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests
import tensorflow as tf
import tensorflow_datasets as tfds

from robustcls._validation import InputError
from robustcls.data import embedded_sets
from robustcls.data.tfds.lookup import get_builder, is_prepared, one_line, quiet_tfds
from robustcls.data.tfds.mirrors import MIRRORS, MirrorError

#: Seconds that a download server has to answer.
PATIENCE = 8.0


class _UnreachableError(Exception):
    """A download server does not answer; the message names the trouble."""


def prepare(name: str, data_dir: str | os.PathLike[str] | None = None) -> Path:
    """Makes a TFDS set ready for `load` and `tfds.load`, and returns its folder.

    A set that is prepared already, or part of this package, is left as it is. Otherwise the
    upstream download is tried, and where it does not answer, a package registry for the sets that
    have a mirror (`fashion_mnist`, `mnist`, `cifar10`). A mirror's files must equal upstream's,
    by MD5, and go through TFDS' own builder, so the result is the canonical set. An interrupted
    preparation leaves nothing that looks prepared.

    Args:
        name: a TFDS name, with or without config and version, or `tiny_imagenet`.
        data_dir: where TFDS keeps prepared sets; see `load` (default None).

    Raises:
        InputError: unknown name, nothing to prepare from, or a failing builder.
    """
    if name == embedded_sets.FASHION_MNIST_MINI:
        return embedded_sets.folder()
    builder = get_builder(name, data_dir)
    if is_prepared(builder):
        return Path(builder.data_path)
    troubles = []
    try:
        _build(builder, name)
    except _UnreachableError as error:
        troubles.append(f"upstream {error}")
    except InputError as error:
        if builder.name not in MIRRORS:
            raise
        troubles.append(f"upstream: {error}")
    if not is_prepared(builder) and builder.name in MIRRORS:
        mirror = MIRRORS[builder.name]
        try:
            with tempfile.TemporaryDirectory(prefix="robustcls-") as folder:
                files = mirror.files(Path(folder))
                # A failed attempt may leave traces in a builder.
                builder = get_builder(name, data_dir)
                _build(builder, name, files)
        except MirrorError as error:
            troubles.append(f"{mirror.origin}: {error}")
    if not is_prepared(builder):
        by_hand = " ".join((builder.MANUAL_DOWNLOAD_INSTRUCTIONS or "").split())
        raise InputError(
            f"{name} is not prepared and cannot be downloaded here ({'; '.join(troubles)}). "
            f"Prepare it once with a network, or pass data_dir with a prepared {builder.name}."
            + (f" By hand, in {_manual_dir(builder, _root(builder))}: {by_hand}" * bool(by_hand))
        )
    return Path(builder.data_path)


class _Upstream(tfds.download.DownloadManager):
    """Downloads as TFDS does, but gives up within seconds when a server does not answer.

    TFDS by itself retries for minutes.
    """

    def _download(self, resource: Any) -> Any:
        _check_answers(resource.url)
        return super()._download(resource)


class _Local(tfds.download.DownloadManager):
    """Answers downloads with the unpacked files that a mirror gave, by upstream file name."""

    def __init__(self, files: Mapping[str, Path], **arguments: Any) -> None:
        super().__init__(**arguments)
        self._files = files
        self._asked: set[str] = set()

    def download_and_extract(self, url_or_urls: Any) -> Any:
        self._asked.update(tf.nest.flatten(url_or_urls))
        return tf.nest.map_structure(lambda url: self._files[url.rsplit("/", 1)[-1]], url_or_urls)

    @property
    def downloaded_size(self) -> int:
        """What upstream's files would have been, as the set's info records it."""
        return sum(self._url_infos[url].size for url in self._asked if url in self._url_infos)


def _build(builder: Any, name: str, files: Mapping[str, Path] | None = None) -> None:
    """Runs the builder, on downloads or on a mirror's files.

    Raises:
        InputError: the builder fails.
        _UnreachableError: a download server does not answer.
    """
    root = _root(builder)
    with tempfile.TemporaryDirectory(prefix="robustcls-") as scratch:
        # A mirror's files must not meet what other sets have left among the downloads.
        downloads = Path(scratch) if files is not None else root / "downloads"
        arguments = {
            "download_dir": downloads,
            "manual_dir": _manual_dir(builder, root),
            "manual_dir_instructions": builder.MANUAL_DOWNLOAD_INSTRUCTIONS,
            "url_infos": builder.url_infos,
            "dataset_name": builder.name,
        }
        try:
            manager = _Upstream(**arguments) if files is None else _Local(files, **arguments)
            # TFDS has no public way to hand a download manager in.
            builder._make_download_manager = lambda **_: manager
            with quiet_tfds(), contextlib.redirect_stdout(io.StringIO()):
                builder.download_and_prepare()
        except (_UnreachableError, InputError):
            raise
        except ImportError as error:
            raise InputError(
                f"Preparing {name} needs a package that is not installed: {one_line(error)}"
            ) from error
        except Exception as error:
            raise InputError(f"{name} could not be prepared: {one_line(error)}") from error


def _root(builder: Any) -> Path:
    """Returns the data folder, over name, config and version."""
    return Path(builder.data_path).parents[1 if builder.builder_config is None else 2]


def _manual_dir(builder: Any, root: Path) -> Path:
    """Returns where files downloaded by hand are: TFDS' place, or the data folder itself."""
    archive = getattr(builder, "ARCHIVE", None)
    if archive and any(root.glob(f"{archive}*")):
        return root
    return root / "downloads" / "manual"


def _check_answers(url: str) -> None:
    """Returns when the server of `url` answers within `PATIENCE` seconds.

    Raises:
        _UnreachableError: it does not, or refuses.
    """
    outcome: list[str] = []

    def ask() -> None:
        try:
            with requests.get(url, stream=True, timeout=PATIENCE) as response:
                outcome.append("" if response.ok else f"answers HTTP {response.status_code}")
        except requests.RequestException as error:
            outcome.append(f"does not answer ({type(error).__name__})")

    # Name look-ups know no timeout, so the question is asked in a thread that can be left behind.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    trouble = outcome[0] if outcome else f"does not answer within {PATIENCE:g} s"
    if trouble:
        raise _UnreachableError(trouble)
