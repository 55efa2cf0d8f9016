"""Which image belongs to which split: by name where splits exist, else by a seeded choice."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from robustcls._validation import InputError

#: Share of each class held out for testing where a set has no test split.
TEST_FRACTION = 0.2


@dataclass(frozen=True)
class Assignment:
    """Where each split comes from.

    Attributes:
        parts: for "train", "validation" and "test": the name of the stored split to read, and the
            int64 indices of its images.
        notes: what was held out of what, for `Splits.source`.
    """

    parts: dict[str, tuple[str, np.ndarray]]
    notes: tuple[str, ...]


def assign(
    stored: Mapping[str, tuple[np.ndarray, np.ndarray]], validation_fraction: float, seed: int
) -> Assignment:
    """Takes "validation" and "test" as stored, and cuts what is missing out of "train".

    Args:
        stored: (labels int64 [N], ids str [N]) of each stored split; "train" must be there.
        validation_fraction: share of each class, in [0, 1), held out where no validation is
            stored.
        seed: seed of the choice.

    Raises:
        InputError: every class has too few images to hold any out for testing.
    """
    labels, ids = stored["train"]
    rest = np.arange(len(labels))
    parts: dict[str, tuple[str, np.ndarray]] = {}
    notes = []
    for part, fraction in (("test", TEST_FRACTION), ("validation", validation_fraction)):
        if part in stored:
            parts[part] = (part, np.arange(len(stored[part][0])))
            continue
        held = held_out(labels[rest], ids[rest], fraction, seed, part)
        parts[part] = ("train", rest[held])
        rest = rest[~held]
        notes.append(f"{part}: {fraction:.3g} of train, by class, seed {seed}")
    if not len(parts["test"][1]):
        raise InputError(
            "A set without a test split must have at least 2 images in a class; received "
            f"{len(labels)} images of {len(np.unique(labels))} classes."
        )
    parts["train"] = ("train", rest)
    return Assignment(parts, tuple(notes))


def held_out(
    labels: np.ndarray, ids: np.ndarray, fraction: float, seed: int, purpose: str
) -> np.ndarray:
    """Chooses `fraction` of each class.

    An image is chosen by the hash of its id, not by its place, so the choice does not depend on
    the order of files or on the machine, and an image added later moves few of the others.

    Args:
        labels: int64 [N].
        ids: str [N].
        fraction: in [0, 1). A class of two or more images gives at least one and keeps at least
            one; a class of one image keeps it.
        seed: another seed gives another choice.
        purpose: "validation" or "test"; the two choices are independent.

    Returns:
        bool [N], True for the chosen images.
    """
    held = np.zeros(len(labels), bool)
    if fraction == 0:
        return held
    ranks = np.array(
        [
            int.from_bytes(hashlib.sha256(f"{purpose}/{seed}/{name}".encode()).digest()[:8], "big")
            for name in ids
        ],
        np.uint64,
    )
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            continue
        count = min(max(round(len(members) * fraction), 1), len(members) - 1)
        held[members[np.argsort(ranks[members], kind="stable")[:count]]] = True
    return held
