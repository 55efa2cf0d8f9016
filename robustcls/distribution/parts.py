"""Results, kept part by part so that work that was stopped can go on."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from robustcls._validation import InputError
from robustcls.files import read_sealed, write_sealed

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

        """
        return self._kept(model, name, depends_on) is not None

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
            InputError: no file can be written.
        """
        path = self.folder / model / f"{name}.json"
        kept = self._kept(model, name, depends_on)
        if kept is not None:
            return kept
        depends_on = json.loads(json.dumps(depends_on))
        # State of another model or of other settings is never taken up.
        digest = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()
        state = self.folder / model / f"{name}-{digest[:16]}"
        # As it will be read again, so that a result is the same whether kept or new.
        result: dict[str, Any] = json.loads(json.dumps(measure(state), allow_nan=False))
        write_sealed(path, {"depends_on": depends_on, "result": result})
        shutil.rmtree(state, ignore_errors=True)
        return result

    def _kept(self, model: str, name: str, depends_on: Mapping[str, Any]) -> dict[str, Any] | None:
        """The result that is there; None without, or of other settings, or damaged."""
        path = self.folder / model / f"{name}.json"
        if not path.is_file():
            return None
        try:
            kept = read_sealed(path)
            same = kept["depends_on"] == json.loads(json.dumps(depends_on))
            result: dict[str, Any] = kept["result"]
        except InputError as error:
            print(f"{error} It is measured again.", file=sys.stderr)
            return None
        return result if same else None
