"""The models and versions that are served, and the watch over their folders."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from robustcls._validation import InputError, nearest
from robustcls.serving.errors import ServingError, invalid
from robustcls.serving.exports.archive import SAVED_MODEL, version_folders
from robustcls.serving.exports.configuration import ModelConfig
from robustcls.serving.server.batching import Batcher
from robustcls.serving.server.loading import LoadedVersion, load_version
from robustcls.serving.server.logs import LOG
from robustcls.serving.server.metrics import Metrics

MakeBatcher = Callable[[str, LoadedVersion, str], Batcher]


@dataclass(eq=False)
class ServedVersion:
    """A loaded version that answers, with one batcher for each signature in use."""

    number: int
    loaded: LoadedVersion
    batchers: dict[str, Batcher] = field(default_factory=dict)
    leases: int = 0


@dataclass(eq=False)
class ServedModel:
    """What is known of one model.

    Attributes:
        config: its name, folder and policy.
        versions: those that answer, by number.
        failed: why versions could not be loaded, and the stamp of their files then.
        loading: the version that is being loaded.
        labels: versions by label, once all of them answered.
        refused: the labels in `config` that name versions which do not answer.
    """

    config: ModelConfig
    versions: dict[int, ServedVersion] = field(default_factory=dict)
    failed: dict[int, tuple[int, str]] = field(default_factory=dict)
    loading: int | None = None
    labels: dict[str, int] = field(default_factory=dict)
    refused: tuple[tuple[str, int], ...] = ()


class Registry:
    """Loads, replaces and hands out versions.

    A new version is loaded and warmed up beside the old one, which goes on answering; then
    requests go to the new one, and the old one leaves memory after its last answer. A version
    that cannot be loaded changes nothing: the log says why, and it is tried again when any of its
    files changes, so a version that is copied file by file is served in the end.

    Args:
        configs: the models.
        make_batcher: makes the batcher of (model, version, signature).
        metrics: is told which versions answer.
        read: reads `configs` again, for other policies and labels of the same models; None keeps
            them.
    """

    def __init__(
        self,
        configs: list[ModelConfig],
        make_batcher: MakeBatcher,
        metrics: Metrics,
        read: Callable[[], list[ModelConfig]] | None = None,
    ) -> None:
        self.models = {config.name: ServedModel(config) for config in configs}
        self._make_batcher = make_batcher
        self._metrics = metrics
        self._read = read
        self._unreadable = ""
        self._loader: Executor = ThreadPoolExecutor(1, "loader")

    @contextlib.contextmanager
    def lease(self, name: str, version: int | None, label: str | None) -> Iterator[ServedVersion]:
        """Yields a version that stays loaded in the meantime: the newest unless one is named.

        Raises:
            ServingError: no such model, version or label.
        """
        model = self.model(name)
        if label is not None:
            version = self._labelled(model, label)
        number = max(model.versions, default=None) if version is None else version
        if number is None or number not in model.versions:
            available = ", ".join(map(str, sorted(model.versions))) or "none"
            raise ServingError(
                grpc.StatusCode.NOT_FOUND,
                f"version of {name} must be one of those available ({available}); "
                f"received {label or version or 'none'}.",
            )
        served = model.versions[number]
        served.leases += 1
        try:
            yield served
        finally:
            served.leases -= 1

    def model(self, name: str) -> ServedModel:
        """Returns a model by its name, else raises `ServingError`."""
        if not name:
            raise invalid(f"model must be named, one of {', '.join(sorted(self.models))}.")
        if name not in self.models:
            raise ServingError(
                grpc.StatusCode.NOT_FOUND,
                f"model must be one of {', '.join(sorted(self.models))}; received {name[:100]!r}.",
            )
        return self.models[name]

    def batcher(self, model: str, served: ServedVersion, signature: str) -> Batcher:
        """Returns the batcher of a signature, made at its first request."""
        if signature not in served.batchers:
            served.batchers[signature] = self._make_batcher(model, served.loaded, signature)
        return served.batchers[signature]

    def statuses(self, name: str, version: int | None) -> list[tuple[int, str, str]]:
        """Returns (version, state, message) of a model's versions, the newest first.

        Raises:
            ServingError: no such model or version.
        """
        model = self.model(name)
        known = {number: (number, "AVAILABLE", "") for number in model.versions}
        for number, (_, message) in model.failed.items():
            known[number] = (number, "END", message)
        if model.loading is not None:
            known[model.loading] = (model.loading, "LOADING", "")
        if version is None:
            return [known[number] for number in sorted(known, reverse=True)]
        if version not in known:
            raise ServingError(grpc.StatusCode.NOT_FOUND, f"{name} has no version {version}.")
        return [known[version]]

    async def watch(self, seconds: float) -> None:
        """Looks for new versions for ever."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.scan()
            except Exception:
                LOG.exception("the folders could not be searched")

    async def scan(self) -> None:
        """Loads what is new, moves labels, and unloads what is no longer wanted, of every model."""
        self._read_again()
        for model in self.models.values():
            await self._scan(model)

    async def close(self) -> None:
        """Unloads everything."""
        for model in self.models.values():
            for number in list(model.versions):
                await self._unload(model, number)
        self._loader.shutdown(wait=True)

    def _labelled(self, model: ServedModel, label: str) -> int:
        if label not in model.labels:
            raise invalid(
                f"label must be one of {', '.join(sorted(model.labels)) or 'none'}; "
                f"received {label[:100]!r}.{nearest(label, model.labels)}"
            )
        return model.labels[label]

    def _read_again(self) -> None:
        if self._read is None:
            return
        try:
            found = self._read()
        except InputError as error:  # it is being written, or there is no version any more
            if str(error) != self._unreadable:
                LOG.error("what is served stays as it is: %s", error)
            self._unreadable = str(error)
            return
        self._unreadable = ""
        for config in found:
            if config.name in self.models:
                self.models[config.name].config = config

    def _move_labels(self, model: ServedModel) -> None:
        labels = dict(model.config.labels)
        gone = [label for label, number in labels.items() if number not in model.versions]
        if not gone:
            model.labels, model.refused = labels, ()
        elif model.refused != model.config.labels:
            model.refused = model.config.labels
            LOG.error(
                "the labels of %s stay as they are: %s must name versions that answer",
                model.config.name,
                ", ".join(sorted(gone)),
            )

    async def _scan(self, model: ServedModel) -> None:
        found = {
            number: folder
            for number, folder in version_folders(model.config.folder).items()
            if (folder / SAVED_MODEL).is_file()
        }
        model.failed = {n: reason for n, reason in model.failed.items() if n in found}
        wanted: list[int] = []
        # Of the versions that are named all are served, as labels want them.
        limit = 0 if model.config.specific else model.config.latest
        for number in self._candidates(model.config, sorted(found, reverse=True)):
            if number in model.versions or await self._load(model, number, found[number]):
                wanted.append(number)
            if len(wanted) == limit:
                break
        self._move_labels(model)
        for number in [n for n in model.versions if wanted and n not in wanted]:
            await self._unload(model, number)

    def _candidates(self, config: ModelConfig, numbers: list[int]) -> list[int]:
        """The versions that may be served, the newest first."""
        if config.specific:
            return [number for number in numbers if number in config.specific]
        return numbers

    async def _load(self, model: ServedModel, number: int, folder: Path) -> bool:
        name, stamp = model.config.name, _stamp(folder)
        if number in model.failed and model.failed[number][0] == stamp:
            return False
        model.loading = number
        loop = asyncio.get_running_loop()
        try:
            loaded = await loop.run_in_executor(self._loader, load_version, folder)
        except InputError as error:
            LOG.error("%s version %d is left out: %s", name, number, error)
            model.failed[number] = (stamp, str(error))
            return False
        finally:
            model.loading = None
        model.failed.pop(number, None)
        model.versions[number] = ServedVersion(number, loaded)
        self._metrics.versions.labels(name, number).set(1)
        LOG.info("%s version %d is available", name, number)
        return True

    async def _unload(self, model: ServedModel, number: int) -> None:
        served = model.versions.pop(number)
        while served.leases:
            await asyncio.sleep(0.01)
        for batcher in served.batchers.values():
            await batcher.close()
        self._metrics.versions.remove(model.config.name, number)
        LOG.info("%s version %d is unloaded", model.config.name, number)
        del served
        _free_memory()


def _stamp(folder: Path) -> int:
    """A number that is another one once a file in the folder comes, goes or changes."""
    found = []
    for path in sorted(folder.rglob("*")):
        with contextlib.suppress(OSError):  # it went meanwhile
            about = path.stat()
            found.append((str(path), about.st_size, about.st_mtime_ns))
    return hash(tuple(found))


def _free_memory() -> None:
    """Lets go of an unloaded version."""
    gc.collect()  # A SavedModel and its functions refer to each other.
    # It was loaded in one thread and freed in another, so glibc would keep its memory.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)
