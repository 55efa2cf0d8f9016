"""The results of a benchmark, a file each; a damaged one is measured again."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustcls._validation import InputError
from robustcls.distribution.parts import Measure
from robustcls.files import read_sealed, write_sealed


class ResultFiles:
    """A file for each result, `results/ROW-CLASS-SEED.json`; the run's settings are theirs.

    Args:
        folder: where they are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def holds(self, group: str, name: str, depends_on: Mapping[str, Any]) -> bool:
        return is_whole(self._path(group, name))

    def part(
        self, group: str, name: str, depends_on: Mapping[str, Any], measure: Measure
    ) -> dict[str, Any]:
        path = self._path(group, name)
        if not is_whole(path):
            write_sealed(path, measure(self.folder))
        return read_sealed(path)

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, group: str, name: str) -> Path:
        return self.folder / f"{group}-{name}.json"


def is_whole(path: Path) -> bool:
    """Whether a result is there; a damaged one is measured again."""
    if not path.exists():
        return False
    try:
        read_sealed(path)["auroc"]
    except InputError as error:
        print(f"{error} It is measured again.", file=sys.stderr)
        return False
    return True
