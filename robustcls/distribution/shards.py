"""Work in shards: each takes some of the pieces, anywhere, and a merge joins what they found."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from robustcls._validation import InputError
from robustcls.distribution.cluster import difference, short
from robustcls.distribution.work import Work
from robustcls.runs import read_json, write_json

_LEFT = re.compile(r"shard_(\d+)_of_(\d+)\.json")


@dataclass(frozen=True)
class Shard:
    """One of the shards of some work.

    Attributes:
        number: which, from 1 on.
        count: how many there are.
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Reads `2/5`, the second of five.

        Args:
            text: number/count.

        Raises:
            InputError: it is anything else.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise InputError(f"shards must be like 2/5, the second of five; received {text!r}.")
        return cls(int(found[1]), int(found[2]))

    @property
    def file(self) -> str:
        """What is left beside the results of a shard that is done."""
        return f"shard_{self.number}_of_{self.count}.json"


def measure_shard(work: Work, shard: Shard, *, progress: bool = False) -> list[str]:
    """Does every piece that is the shard's, and keeps the results.

    The pieces are dealt to the shards in turn. What is there already and would come out the same
    is not done again.

    Args:
        work: the same for all shards.
        shard: which of them this is.
        progress: show what is being done (bool, default False).

    Returns:
        The names of the pieces, such as `base/pgd20`.

    Raises:
        InputError: what the pieces raise.
    """
    done = []
    for piece in work.pieces[shard.number - 1 :: shard.count]:
        if progress:
            print(piece.title, file=sys.stderr)
        work.do(piece)
        done.append(piece.title)
    write_json(work.results.folder / shard.file, {"parts": done, "facts": dict(work.facts)})
    return done


def require_shards(work: Work, folders: Sequence[Path | str] = ()) -> None:
    """Gathers what the shards found, and makes sure that nothing is missing.

    Args:
        work: the same as for the shards.
        folders: where else shards have left results: copies of the folder that holds the folder
            of results (default ()).

    Raises:
        InputError: a shard or a piece is missing, or was measured of another model, other images
            or with other settings.
    """
    own = work.results.folder
    for folder in folders:
        _take_over(Path(folder) / own.name, work)
    _require_all(own)
    missing = [piece.title for piece in work.pieces if not work.holds(piece)]
    if missing:
        raise InputError(
            f"{own} must hold every part, measured of these models with these settings; missing "
            f"are {short(', '.join(missing))}. Run their shards again."
        )


def _take_over(folder: Path, work: Work) -> None:
    if not folder.is_dir():
        raise InputError(f"folders must each have {folder.name}/ in them; {folder} is missing.")
    shards = sorted(_shards_in(folder))
    facts = json.loads(json.dumps(dict(work.facts)))
    for file in shards:
        said = read_json(file)
        if not isinstance(said, dict):
            raise InputError(f"{file} must be what a shard has left; it is damaged.")
        found = difference(facts, said.get("facts", {}))
        if found:
            name, here, there = found
            raise InputError(
                f"{name} must be the same for all shards; received {short(repr(here))} here and "
                f"{short(repr(there))} in {folder}."
            )
    results = [file for pattern in ("*.json", "*/*.json") for file in folder.glob(pattern)]
    for file in sorted(set(results) - set(shards)) + shards:
        write_json(work.results.folder / file.relative_to(folder), read_json(file))


def _shards_in(folder: Path) -> dict[Path, tuple[int, int]]:
    """What shards have left in a folder: number and count by file."""
    named = {file: _LEFT.fullmatch(file.name) for file in folder.glob("shard_*.json")}
    return {file: (int(name[1]), int(name[2])) for file, name in named.items() if name}


def _require_all(folder: Path) -> None:
    lacking: dict[int, set[int]] = {}
    for number, count in _shards_in(folder).values():
        lacking.setdefault(count, set(range(1, count + 1))).discard(number)
    if not lacking:
        raise InputError(f"{folder} must hold the results of shards; it holds none.")
    # Of several divisions, as after a change of mind, the one with the least left to do.
    count = min(lacking, key=lambda count: len(lacking[count]))
    missing = sorted(lacking[count])
    if missing:
        again = ", ".join(f"--shards {number}/{count}" for number in missing)
        raise InputError(
            f"{folder} must hold the results of all {count} shards; {len(missing)} of them "
            f"{'is' if len(missing) == 1 else 'are'} missing. Run {again}."
        )
