"""A held-out part cut from a split: class by class, by seed, the same on every machine."""

from __future__ import annotations

import hashlib

import numpy as np

from robustcls.data.splits import Split


def carve(split: Split, fraction: float, seed: int, purpose: str) -> tuple[Split, Split]:
    """Cuts `fraction` of each class out of `split`.

    An image is chosen by the hash of its id, not by its place, so the choice does not depend on
    the order of files, and an image added later moves few of the others.

    Args:
        split: the images to cut from.
        fraction: share held out, in [0, 1). A class of two or more images gives at least one and
            keeps at least one; a class of one image stays whole.
        seed: another seed gives another choice.
        purpose: "validation" or "test"; the two choices are independent.

    Returns:
        (kept, held out), each in the order of `split`.
    """
    held = held_out(split.labels, split.ids, fraction, seed, purpose)
    return split.take(np.flatnonzero(~held)), split.take(np.flatnonzero(held))


def held_out(
    labels: np.ndarray, ids: np.ndarray, fraction: float, seed: int, purpose: str
) -> np.ndarray:
    """Returns bool [N]: which images `carve` holds out."""
    held = np.zeros(len(labels), bool)
    if fraction == 0:
        return held
    ranks = np.array(
        [hashlib.sha256(f"{purpose}/{seed}/{name}".encode()).digest()[:8] for name in ids], "S8"
    )
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            continue
        count = min(max(round(len(members) * fraction), 1), len(members) - 1)
        held[members[np.argsort(ranks[members], kind="stable")[:count]]] = True
    return held
