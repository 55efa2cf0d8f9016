"""A fitted detector as a folder: `config.json` and one file of weights, no pickle."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anomaly.detection.layers import single_precision
from anomaly.detection.registry import METHODS
from robustcls._validation import InputError, check_number
from robustcls.files import atomic, read_sealed, write_sealed
from robustcls.runs import CONFIG, versions

KIND = "anomaly detector"
#: Raised whenever a detector saved before would be read wrongly.
VERSION = 1


@dataclass(frozen=True)
class SavedDetector:
    """All that makes a fitted detector.

    Attributes:
        method: its name.
        settings: its constructor's arguments, JSON-serializable.
        thresholds: the score above which images are anomalies, and what else it compares with.
        arrays: the networks' weights by name.
    """

    method: str
    settings: Mapping[str, Any]
    thresholds: Mapping[str, float]
    arrays: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, detector: Any) -> SavedDetector:
        """Returns all that makes a detector."""
        thresholds = {name: getattr(detector, name) for name in detector.threshold_names}
        arrays = {
            f"{name}/{index}": array
            for name, network in detector.networks.items()
            for index, array in enumerate(network.get_weights())
        }
        return cls(detector.method, detector.get_config(), thresholds, arrays)

    def restore(self, kind: Any) -> Any:
        """Returns the detector, of the class `kind`, as it was saved.

        Raises:
            InputError: a setting that the class does not take, or weights of other networks.
        """
        detector = kind.from_config(self.settings)
        # Networks need not have weights, but what was fitted has thresholds.
        if self.arrays or not all(map(math.isnan, self.thresholds.values())):
            with single_precision():
                networks = detector.build()
            try:
                for name, network in networks.items():
                    count = len(network.get_weights())
                    network.set_weights([self.arrays[f"{name}/{index}"] for index in range(count)])
                    for layer in network.layers:
                        # Keras' Normalization and the like keep more than weights.
                        if hasattr(layer, "finalize_state"):
                            layer.finalize_state()
            except (KeyError, ValueError):
                raise InputError(
                    f"folder must hold the weights that {self.method} builds now; received "
                    "others. Has its class changed since?"
                ) from None
            detector.networks = networks
        for name in kind.threshold_names:
            setattr(detector, name, self.thresholds[name])
        return detector

    def write(self, folder: Path) -> Path:
        """Writes into `folder`, replacing a detector that is there.

        `config.json` names the weights it belongs to, so until it is replaced, as the last, the
        old detector is whole.

        Raises:
            InputError: `folder` cannot be written, or holds a `config.json` of something else.
        """
        for threshold, value in self.thresholds.items():
            check_number(threshold, value)
        old = _read_config(folder) if (folder / CONFIG).exists() else None
        stream = io.BytesIO()
        np.savez(stream, **self.arrays)  # type: ignore[arg-type]
        digest = hashlib.sha256(stream.getbuffer()).hexdigest()
        name = f"weights-{digest[:12]}.npz"
        with atomic(folder / name) as path:
            path.write_bytes(stream.getbuffer())
        config = {
            "kind": KIND,
            "version": VERSION,
            "method": self.method,
            "settings": self.settings,
            "thresholds": self.thresholds,
            "weights": {"file": name, "sha256": digest},
            "versions": versions(),
        }
        write_sealed(folder / CONFIG, config)
        if old is not None and old["weights"]["file"] != name:
            (folder / Path(old["weights"]["file"]).name).unlink(missing_ok=True)
        return folder

    @classmethod
    def read(cls, folder: Path) -> SavedDetector:
        """Reads what `write` wrote.

        Raises:
            InputError: there is no detector, it is of another version, or its files are damaged.
        """
        config = _read_config(folder, known=True)
        path = folder / Path(config["weights"]["file"]).name
        data = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(data).hexdigest() != config["weights"]["sha256"]:
            raise InputError(f"folder must hold a whole detector; {path} is missing or damaged.")
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = dict(archive)
        for name, value in config["thresholds"].items():
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise InputError(
                    f"{name} must be a finite number; {folder / CONFIG} is damaged: {value!r}."
                )
        return cls(config["method"], config["settings"], config["thresholds"], arrays)


def load_saved(folder: Path, base: Any) -> Any:
    """Returns the detector saved in `folder`, whose method is `base` or derived from it.

    Raises:
        InputError: as for `OneClassDetector.load`.
    """
    saved = SavedDetector.read(folder)
    kind = METHODS[saved.method]
    if not issubclass(kind, base):
        raise InputError(
            f"folder must hold a detector of {base.method}; {folder} holds {kind.method}."
        )
    for name in kind.threshold_names:
        if name not in saved.thresholds:
            raise InputError(f"{folder / CONFIG} must hold the {name}; it is missing.")
    return saved.restore(kind)


def _read_config(folder: Path, *, known: bool = False) -> dict[str, Any]:
    """Reads a detector's `config.json`; with `known` its method must be one that is imported."""
    file = folder / CONFIG

    def check(config: dict[str, Any]) -> None:
        if config.get("kind") != KIND:
            raise InputError(f"folder must be a detector's; {file} is something else's.")
        if config.get("version") != VERSION:
            saved_by = (config.get("versions") or {}).get("robustcls", "unknown")
            raise InputError(
                f"folder must hold a detector of format {VERSION}; {folder} holds format "
                f"{config.get('version')}, saved by robustcls {saved_by}."
            )
        method = config.get("method")
        if known and isinstance(method, str) and method not in METHODS:
            raise InputError(
                f"method must be one of {', '.join(METHODS)}; {folder} holds {method!r}. "
                "Import the module that defines it first (--import MODULE)."
            )

    config = read_sealed(file, check)
    parts = {"method": str, "settings": dict, "thresholds": dict, "weights": dict}
    for name, kind in parts.items():
        if not isinstance(config[name], kind):
            raise InputError(f"folder must hold a whole detector; {file} is damaged.")
    return config
