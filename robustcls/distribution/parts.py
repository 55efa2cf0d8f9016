"""Results, kept part by part so that work that was stopped can go on."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from robustcls.runs import read_json, write_json

Measure = Callable[[Path], dict[str, Any]]
"""Returns the result of a part; is given a folder to keep its state in."""


class Ledger:
    """One JSON file for each part's result, beside what the result depends on.

    Args:
        folder: where the files go.
        reuse: take over what is there already, and the state of a part that was stopped.
    """

    def __init__(self, folder: Path, *, reuse: bool) -> None:
        self.folder = folder
        if not reuse:
            self.clear()

    def clear(self) -> None:
        """Deletes what is there."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def holds(self, model: str, name: str, depends_on: Mapping[str, Any]) -> bool:
        """Returns whether a part's result is there already, and would come out the same.

        Args:
            model: whose result.
            name: of the part.
            depends_on: all that decides the result, JSON-serializable.

        Raises:
            InputError: the kept file is damaged.
        """
        path = self.folder / model / f"{name}.json"
        if not path.is_file():
            return False
        return bool(read_json(path)["depends_on"] == json.loads(json.dumps(depends_on)))

    def part(
        self,
        model: str,
        name: str,
        depends_on: Mapping[str, Any],
        measure: Measure,
    ) -> dict[str, Any]:
        """Returns the part's result: the kept one if it would come out the same, else a new one.

        Args:
            model: whose result.
            name: of the part.
            depends_on: all that decides the result, JSON-serializable.
            measure: returns the result, JSON-serializable. It is given a folder to keep its
                state in, which is deleted once the result is written.

        Raises:
            InputError: the kept file is damaged, or no file can be written.
        """
        path = self.folder / model / f"{name}.json"
        if self.holds(model, name, depends_on):
            result: dict[str, Any] = read_json(path)["result"]
            return result
        depends_on = json.loads(json.dumps(depends_on))
        # State of another model or of other settings is never taken up.
        digest = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()
        state = self.folder / model / f"{name}-{digest[:16]}"
        # As it will be read again, so that a result is the same whether kept or new.
        result = json.loads(json.dumps(measure(state), allow_nan=False))
        write_json(path, {"depends_on": depends_on, "result": result})
        shutil.rmtree(state, ignore_errors=True)
        return result
