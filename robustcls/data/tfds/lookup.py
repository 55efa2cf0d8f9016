"""Builders of TensorFlow Datasets by name, with its errors and its talk made ours."""

from __future__ import annotations

import importlib
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow_datasets as tfds

from robustcls._validation import InputError, nearest

#: Builders of this package, registered with TFDS by importing them.
OWN_BUILDERS = {"tiny_imagenet": "robustcls.data.tfds.builders.tiny_imagenet"}


def is_known(name: str) -> bool:
    """Whether `name`, without its config and version, is one of TFDS' sets or ours."""
    plain = name.split("/")[0].split(":")[0]
    return plain in OWN_BUILDERS or plain in tfds.list_builders(with_community_datasets=False)


def get_builder(name: str, data_dir: str | os.PathLike[str] | None = None) -> Any:
    """Returns the TFDS builder of `name`, which may carry a config and a version.

    Raises:
        InputError: unknown name, config or version.
    """
    plain = name.split("/")[0].split(":")[0]
    if plain in OWN_BUILDERS:
        importlib.import_module(OWN_BUILDERS[plain])
    if not is_known(name):
        known = [*OWN_BUILDERS, *tfds.list_builders(with_community_datasets=False)]
        raise InputError(f"name must be a TFDS set; received {name!r}." + nearest(plain, known))
    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR")
    try:
        with quiet_tfds():
            builder = tfds.builder(name, data_dir=data_dir and os.path.expanduser(data_dir))
            builder.info  # noqa: B018 - made on first use, when it may fail
            return builder
    except Exception as error:  # each builder checks its arguments in its own way
        raise InputError(f"name {name!r} is no usable TFDS set: {one_line(error)}") from error


def is_prepared(builder: Any) -> bool:
    """Whether the set lies complete in the builder's folder."""
    return (builder.data_path / "dataset_info.json").exists()


def image_and_label(builder: Any) -> tuple[str, str] | None:
    """Returns the names of the one image and the one class label of each example, if so."""
    if not isinstance(builder.info.features, tfds.features.FeaturesDict):
        return None
    features = dict(builder.info.features.items())
    keys = builder.info.supervised_keys
    if not keys or len(keys) != 2 or not all(isinstance(key, str) for key in keys):
        keys = tuple(features)
    images = [key for key in keys if isinstance(features.get(key), tfds.features.Image)]
    labels = [key for key in keys if isinstance(features.get(key), tfds.features.ClassLabel)]
    return (images[0], labels[0]) if len(images) == len(labels) == 1 else None


@contextmanager
def quiet_tfds() -> Iterator[None]:
    """Keeps TFDS' log below errors and its progress bars to terminals.

    The log would warn of every set that is not prepared yet.
    """
    logger = logging.getLogger("absl")
    level = logger.level
    shows_bars = getattr(tfds.core.utils.tqdm_utils, "_active", True)
    logger.setLevel(logging.ERROR)
    tfds.display_progress_bar(shows_bars and sys.stderr.isatty())
    try:
        yield
    finally:
        logger.setLevel(level)
        tfds.display_progress_bar(shows_bars)


def one_line(error: BaseException) -> str:
    """Returns an error's message in one line of at most 400 characters, with a full stop."""
    words = " ".join(str(error).split()) or type(error).__name__
    words = re.sub(r'^Failed to construct dataset .*?}": ', "", words)  # TFDS' own preamble
    return (words if len(words) <= 400 else words[:400] + " ...").rstrip(".") + "."
