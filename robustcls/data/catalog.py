"""What `load` knows by name, and where each set can be had."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import resources
from typing import Any

import tensorflow_datasets as tfds

from robustcls.data.embedded_sets import FASHION_MNIST_MINI
from robustcls.data.tfds.lookup import (
    OWN_BUILDERS,
    get_builder,
    image_and_label,
    is_prepared,
)
from robustcls.data.tfds.mirrors import MIRRORS


@dataclass(frozen=True)
class KnownSet:
    """One line of `robustcls data list`.

    Attributes:
        name: what `load` and `prepare` take.
        source: where the images come from, in words.
        prepared: whether `load` needs no download.
    """

    name: str
    source: str
    prepared: bool


def list_datasets(data_dir: str | os.PathLike[str] | None = None) -> tuple[KnownSet, ...]:
    """Returns every set that `load` knows by name, those easiest to get first.

    Args:
        data_dir: where TFDS keeps prepared sets; see `load` (default None).
    """
    known = [KnownSet(FASHION_MNIST_MINI, "in this package", True)]
    for name in [*MIRRORS, *OWN_BUILDERS, *image_set_names()]:
        if name in {entry.name for entry in known}:
            continue
        try:
            builder = get_builder(name, data_dir)
        except ValueError:
            continue  # a set whose own code fails to import here
        if image_and_label(builder):
            known.append(KnownSet(name, _source(name, builder), is_prepared(builder)))
    return tuple(known)


def image_set_names() -> list[str]:
    """Returns the names of TFDS' sets that it files or tags as images, without loading them."""
    names = []
    packages = resources.files("tensorflow_datasets").joinpath("datasets")
    for name in tfds.list_builders(with_community_datasets=False):
        package = packages.joinpath(name)
        if package.is_dir():
            tags = package.joinpath("TAGS.txt")
            lines = tags.read_text(encoding="utf-8").splitlines() if tags.is_file() else []
            if any(line.startswith("content.data-type.image") for line in lines):
                names.append(name)
        elif ".image" in tfds.builder_cls(name).__module__:
            names.append(name)
    return names


def _source(name: str, builder: Any) -> str:
    if name in MIRRORS:
        return f"TFDS, or {MIRRORS[name].origin}"
    if name in OWN_BUILDERS:
        return "builder of this package"
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        return "TFDS, from files downloaded by hand"
    return "TFDS"
