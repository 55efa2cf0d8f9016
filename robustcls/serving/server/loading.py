"""A version of a model in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from robustcls._validation import InputError
from robustcls.serving.exports.archive import read_saved_model
from robustcls.serving.exports.warmup import read_warmup
from robustcls.serving.server.signature import Signature


@dataclass(frozen=True)
class LoadedVersion:
    """A SavedModel that has been warmed up.

    Attributes:
        model: the loaded object, which its functions need to stay alive.
        signatures: by name.
    """

    model: Any
    signatures: Mapping[str, Signature]


def load_version(folder: Path) -> LoadedVersion:
    """Loads a SavedModel and answers its warm-up requests.

    Raises:
        InputError: it cannot be loaded, has no signatures, or fails on its own warm-up.
    """
    definitions = read_saved_model(folder).meta_graphs[0].signature_def
    try:
        model = tf.saved_model.load(str(folder))
        signatures = {
            name: Signature.of(name, definitions[name], function)
            for name, function in model.signatures.items()
        }
        for name, inputs in read_warmup(folder):
            signatures[name].run(inputs)
    except Exception as error:  # TensorFlow raises nearly anything for damaged files
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{folder} cannot be loaded; {reason[:300]}.") from error
    if not signatures:
        raise InputError(f"{folder} must have signatures; it has none.")
    for name, signature in signatures.items():
        if not signature.by_row:  # Requests that share a batch would get each other's answers.
            raise InputError(
                f"{folder} must take and give a row for each image; {name} has other tensors."
            )
    return LoadedVersion(model, signatures)
