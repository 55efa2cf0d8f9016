"""Configuration files of TensorFlow Serving: written beside an export, read by the local server."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import jinja2
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from robustcls._validation import InputError
from robustcls.runs import write_text
from robustcls.serving.exports.archive import version_folders

MODELS = "models.config"
BATCHING = "batching_parameters.txt"
IMAGE = "tensorflow/serving:2.21.0"
#: Images in a batch on the server.
BATCH_SIZES = (1, 2, 4, 8, 16, 32)
#: What the monitoring configuration asks for.
METRICS_PATH = "/monitoring/prometheus/metrics"

_FILES = (MODELS, BATCHING, "monitoring.config", "compose.yaml", "kubernetes.yaml")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def check_name(name: str) -> str:
    """Returns a model's name that can stand in addresses and folders, else raises `InputError`."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"name must be letters, digits, '_', '.' and '-'; received {name!r}. "
            f"Did you mean '{usable_name(name)}'?"
        )
    return name


def usable_name(text: str) -> str:
    """Returns a name like `text` that `check_name` accepts."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-_.") or "model"


def render(template: str, **values: Any) -> str:
    """Returns one of the files in `templates/` with its values filled in."""
    return _environment().get_template(template).render(**values)


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("robustcls.serving.exports"),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )


def write_configuration(folder: Path, name: str) -> None:
    """Writes the configuration files into a model's folder; those that are there stay."""
    slug = re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")[:50].strip("-")
    for file in _FILES:
        if not (folder / file).exists():
            values = {"name": name, "slug": slug, "image": IMAGE, "batch_sizes": BATCH_SIZES}
            write_text(folder / file, render(file, **values))


@dataclass(frozen=True)
class ModelConfig:
    """One model of a server.

    Attributes:
        name: its name in requests.
        folder: with its version folders.
        latest: how many of the newest versions to serve; 0 serves all.
        specific: the versions to serve instead.
        labels: names of versions.
    """

    name: str
    folder: Path
    latest: int = 1
    specific: tuple[int, ...] = ()
    labels: tuple[tuple[str, int], ...] = ()


def find_models(folder: Path | str) -> list[ModelConfig]:
    """Returns the models of an export folder, or of a folder of such folders.

    `models.config` beside the version folders names the model, its versions and their labels;
    without one the folder's name is the model's. In a `models.config` above several models the
    last part of each `base_path` is the model's folder.

    Raises:
        InputError: there is none, or a `models.config` that cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"folder must be an export; {folder} does not exist.")
    if (folder / MODELS).is_file():
        models = _read_models(folder)
    elif version_folders(folder):
        models = [ModelConfig(usable_name(folder.resolve().name), folder)]
    else:
        inner = [path for path in sorted(folder.iterdir()) if path.is_dir()]
        models = [model for path in inner if version_folders(path) for model in find_models(path)]
    if not any(model.folder.is_dir() and version_folders(model.folder) for model in models):
        raise InputError(
            f"folder must be an export; {folder} has no version folder like {folder / '1'}."
        )
    names = [model.name for model in models]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"models must have names of their own; {name!r} comes twice.")
    return models


def read_batching(path: Path) -> dict[str, int]:
    """Returns the numbers in a `batching_parameters.txt`, by name.

    Raises:
        InputError: a number that is missing or not positive.
    """
    lines = [line.partition("#")[0] for line in path.read_text(encoding="utf-8").splitlines()]
    found = re.findall(r"(\w+)\s*\{\s*value\s*:\s*(-?\d+)\s*\}", "\n".join(lines))
    values = {name: int(value) for name, value in found}
    wanted = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")
    for name in wanted:
        if values.get(name, -1) < (name != "batch_timeout_micros"):
            raise InputError(
                f"{path} must have a positive {name}; received {values.get(name, 'none')}."
            )
    return {name: values[name] for name in wanted}


def _read_models(folder: Path) -> list[ModelConfig]:
    read = model_server_config_pb2.ModelServerConfig()
    try:
        text_format.Parse((folder / MODELS).read_text(encoding="utf-8"), read)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise InputError(f"{folder / MODELS} must be a ModelServerConfig; {error}.") from None
    models = []
    for config in read.model_config_list.config:
        policy = config.model_version_policy
        latest = policy.latest.num_versions or 1
        base = folder / PurePosixPath(config.base_path).name
        models.append(
            ModelConfig(
                name=check_name(config.name),
                folder=base if base.is_dir() else folder,
                latest=0 if policy.HasField("all") else latest,
                specific=tuple(policy.specific.versions),
                labels=tuple(config.version_labels.items()),
            )
        )
    return models
