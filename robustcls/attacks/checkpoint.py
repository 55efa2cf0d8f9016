"""The state of an attack on disk, so that one that was stopped can go on."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import numpy as np

from robustcls._validation import InputError
from robustcls.attacks.task import Task
from robustcls.classifiers.classifier import Classifier
from robustcls.files import read_arrays, write_arrays

SAVE_SECONDS = 30.0


class Checkpoint:
    """One file for one attack on one task, written whole or not at all.

    Its name comes from the attack's settings, the images, the labels and what had fallen before,
    so attacks can share a folder. The model is told apart by its logits for a few images.

    Args:
        folder: where the file goes; made when there is none.
        attack: its name and its `repr`, which holds all settings.
        classifier: the model.
        task: the images, as they stand before the attack.
    """

    def __init__(self, folder: Path, attack: Any, classifier: Classifier, task: Task) -> None:
        digest = hashlib.sha256(f"{attack!r} {type(task).__name__}".encode())
        # A random model may be wrong about other images when it is asked again.
        fallen = (task.success,) if classifier.samples == 1 else ()
        for array in (task.keys, task.labels, *fallen):
            digest.update(array.tobytes())
        self.probe = classifier.probe
        self.path = folder / f"{attack.name}-{digest.hexdigest()[:16]}.npz"
        self._saved = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether the last save is long enough ago for another."""
        return time.monotonic() - self._saved >= SAVE_SECONDS

    def save(self, task: Task, arrays: dict[str, np.ndarray]) -> None:
        """Writes what was found so far, and `arrays`.

        Raises:
            InputError: the file cannot be written.
        """
        found = {
            "touched": task.touched,
            "adversarial": task.adversarial[task.touched],
            "success": task.success,
            "margin": task.margin,
            "passes": task.passes,
            "probe": self.probe,
        }
        write_arrays(self.path, {f"task.{name}": value for name, value in found.items()} | arrays)
        self._saved = time.monotonic()

    def load(self, task: Task) -> dict[str, np.ndarray] | None:
        """Puts what was found into `task` and returns the other arrays; None without a file.

        Raises:
            InputError: the file is damaged or is of another model.
        """
        if not self.path.is_file():
            return None
        try:
            arrays = read_arrays(self.path)
            found = {name: arrays.pop(f"task.{name}") for name in _FOUND}
        except (InputError, KeyError):
            raise InputError(
                f"checkpoint must hold the state of an attack; {self.path} is damaged. Delete it "
                "to start again."
            ) from None
        probe = found["probe"]
        scale = max(1.0, float(np.abs(self.probe).max()))
        if probe.shape != self.probe.shape or np.abs(probe - self.probe).max() > 1e-3 * scale:
            raise InputError(
                f"checkpoint must be of the same model; {self.path} is of one with other logits. "
                "Use another folder, or delete it to start again."
            )
        task.touched[:] = found["touched"]
        task.adversarial[task.touched] = found["adversarial"]
        task.success[:], task.margin[:] = found["success"], found["margin"]
        task.passes[:] = found["passes"]
        return arrays


_FOUND = ("touched", "adversarial", "success", "margin", "passes", "probe")
