"""An evaluation in shards: each measures some of the parts, anywhere, and a merge joins them."""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from robustcls._validation import InputError
from robustcls.evaluation.runs.comparison import chosen_evaluation, depends_on, evaluate_models
from robustcls.evaluation.runs.config import EvaluationConfig
from robustcls.evaluation.runs.models import ModelsAndImages
from robustcls.evaluation.runs.parts import Ledger
from robustcls.evaluation.runs.plan import EvaluationPlan, Part
from robustcls.runs import read_json, write_json


@dataclass(frozen=True)
class Shard:
    """One of the shards of an evaluation.

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
        """What is left beside the parts of a shard that is done."""
        return f"shard_{self.number}_of_{self.count}.json"


def measure_shard(
    evaluated: ModelsAndImages, config: EvaluationConfig, shard: Shard, *, progress: bool = False
) -> list[str]:
    """Measures every part that is the shard's, and keeps them in `evaluation/`.

    The parts of all models are dealt to the shards in turn. What is there already and would come
    out the same is not measured again.

    Args:
        evaluated: the models and the images.
        config: what to measure, the same for all shards.
        shard: which of them this is.
        progress: show what is being measured (bool, default False).

    Returns:
        The names of the parts, such as `base/pgd20`.

    Raises:
        InputError: a model does not fit the images, or a setting is unusable.
    """
    evaluated = _chosen(evaluated, config)
    ledger = Ledger(evaluated.folder / "evaluation", reuse=True)
    measured = []
    for place, (plan, part) in enumerate(_dealt(evaluated, config, progress)):
        if place % shard.count != shard.number - 1:
            continue
        name = f"{plan.stored.name}/{part.name}"
        if progress:
            print(name, file=sys.stderr)
        ledger.part(plan.stored.name, part.name, depends_on(evaluated, plan, part), part.measure)
        measured.append(name)
    keras.backend.clear_session()
    gc.collect()
    write_json(ledger.folder / shard.file, {"parts": measured})
    return measured


def merge_shards(
    evaluated: ModelsAndImages, config: EvaluationConfig, folders: Sequence[Path | str] = ()
) -> dict[str, Any]:
    """Joins what the shards measured to what one process would have: files, bit by bit.

    Args:
        evaluated: the models and the images.
        config: what was measured.
        folders: where else shards have left results: other folders that `evaluation/` is in
            (default ()).

    Returns:
        What `metrics.json` holds.

    Raises:
        InputError: a shard or a part is missing, or was measured of another model, other images
            or with other settings.
    """
    evaluated = _chosen(evaluated, config)
    own = evaluated.folder / "evaluation"
    for folder in folders:
        _take_over(Path(folder) / "evaluation", own)
    _require_shards(own)
    ledger = Ledger(own, reuse=True)
    missing = [
        f"{plan.stored.name}/{part.name}"
        for plan, part in _dealt(evaluated, config, False)
        if not ledger.holds(plan.stored.name, part.name, depends_on(evaluated, plan, part))
    ]
    if missing:
        raise InputError(
            f"{own} must hold every part, measured of these models with these settings; missing "
            f"are {', '.join(missing)}. Run their shards again."
        )
    return evaluate_models(evaluated, config, resume=True)


def _chosen(evaluated: ModelsAndImages, config: EvaluationConfig) -> ModelsAndImages:
    return evaluated if evaluated.evaluation else chosen_evaluation(evaluated, config)


def _dealt(
    evaluated: ModelsAndImages, config: EvaluationConfig, progress: bool
) -> Iterator[tuple[EvaluationPlan, Part]]:
    plans = [EvaluationPlan(evaluated, stored, config, progress) for stored in evaluated.models]
    for plan in plans:
        for part in plan.parts:
            yield plan, part


def _take_over(folder: Path, own: Path) -> None:
    if not folder.is_dir():
        raise InputError(f"shards must be folders with evaluation/ in them; {folder} is missing.")
    for file in sorted(folder.glob("shard_*.json")) + sorted(folder.glob("*/*.json")):
        write_json(own / file.relative_to(folder), read_json(file))


def _require_shards(folder: Path) -> None:
    lacking: dict[int, set[int]] = {}
    for file in folder.glob("shard_*_of_*.json"):
        number, count = map(int, re.findall(r"\d+", file.name))
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
