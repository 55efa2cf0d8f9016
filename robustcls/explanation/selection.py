"""Which images a report shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from robustcls._validation import InputError, check_choice, check_number

ONLY = ("all", "correct", "wrong", "flipped")

#: (images, labels or None) to a choice among them, bool [n].
Test = Callable[[np.ndarray], np.ndarray]


def select(
    count: int,
    *,
    limit: int,
    seed: int,
    only: str,
    candidates: np.ndarray,
    test: Test,
    chunk: int,
) -> np.ndarray:
    """Returns the indices of at most `limit` images, in ascending order.

    Args:
        count: of images there are, for the message.
        limit: how many to choose, at random.
        seed: of the order in which images are looked at.
        only: one of `ONLY`, for the message.
        candidates: int [n], those of the wanted classes.
        test: indices int [k] to whether each image is as `only` says, bool [k].
        chunk: images tested at a time; no more are tested than are needed.

    Raises:
        InputError: no image is left.
    """
    check_number("limit", limit, minimum=1, integer=True)
    check_choice("only", only, ONLY)
    order = np.random.default_rng(seed).permutation(candidates)
    found: list[int] = []
    for start in range(0, len(order), chunk):
        indices = order[start : start + chunk]
        found += indices[test(indices)].tolist()
        if len(found) >= limit:
            break
    if not found:
        raise InputError(
            f"limit, classes and only must leave at least one image; none of {count} images is "
            f"in the classes asked for and {only}."
            if only != "all"
            else f"classes must leave at least one image; none of {count} images is in them."
        )
    return np.sort(np.array(found[:limit], np.int64))


def class_ids(classes: Sequence[str], names: Sequence[str]) -> list[int]:
    """Returns the ids of class names.

    Raises:
        InputError: there is no such class.
    """
    for name in classes:
        check_choice("classes", name, names)
    return [list(names).index(name) for name in classes]
