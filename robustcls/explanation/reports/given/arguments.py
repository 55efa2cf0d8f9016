"""What `explain` was given, looked at before minutes of work, not after."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robustcls._validation import InputError, as_names, check_choice
from robustcls.attacks import Attack
from robustcls.explanation.quality.measures.registry import MEASURES

ALL = "all"


def named_models(model: Any) -> dict[str, Any]:
    """Returns models by name.

    Args:
        model: one, or several by name.

    Raises:
        InputError: there is none, or a name does not do as a file's.
    """
    named = model if isinstance(model, Mapping) else {"model": model}
    if not named:
        raise InputError("model must be one or more models; received none.")
    for name in named:
        if not name or name.startswith(".") or any(part in name for part in "/\\"):
            raise InputError(f"model names must do as file names; received {name!r}.")
    return dict(named)


def check_attack(attack: Attack | None, only: str) -> None:
    """Raises `InputError` when an attack is none, or missing for `only`.

    Args:
        attack: that makes the twins.
        only: which images are shown.
    """
    if attack is None:
        if only == "flipped":
            raise InputError("attack must be given to show only flipped images; received None.")
        return
    if not isinstance(attack, Attack):
        raise InputError(
            f"attack must be an attack such as PGD(); received {type(attack).__name__}."
        )
    if attack.targeted:
        raise InputError("attack must not be targeted: the labels given are the true ones.")


def check_measures(
    measures: Sequence[str], quality_limit: int, *, with_masks: bool = False
) -> tuple[str, ...]:
    """Returns the names of measures, "all" replaced.

    Args:
        measures: names of `MEASURES`, or "all".
        quality_limit: images for them.
        with_masks: it is known where what counts is (default False).

    Raises:
        InputError: an unknown name, one that needs masks without any, or no image to measure on.
    """
    if not measures and not with_masks:
        return ()
    if not quality_limit:
        raise InputError("quality_limit must be at least 1 for measures; received 0.")
    if not measures:
        return tuple(name for name in MEASURES if MEASURES[name].needs_masks)
    measures = as_names(measures)
    for name in measures:
        check_choice("measures", name, [*MEASURES, ALL])
        if name != ALL and MEASURES[name].needs_masks and not with_masks:
            raise InputError(f"masks must be given for the measure {name}; received none.")
    if ALL in measures:
        return tuple(name for name in MEASURES if with_masks or not MEASURES[name].needs_masks)
    return measures


def check_writable(folder: Path) -> None:
    """Raises `InputError` when a folder cannot be written to.

    Args:
        folder: is made where it is missing.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"out must be a folder to write to; {folder}: {reason}.") from None
