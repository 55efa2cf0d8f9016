"""What may be believed of a method's maps, and why: one rule for every model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from robustcls.evaluation.intervals import Estimate

# A map that is nearer to the same than to another with the weights shuffled is not of the model.
SURVIVES = 0.5
# Maps that change by more than themselves under noise that nobody sees.
_UNSTABLE = 1.0


@dataclass(frozen=True)
class Belief:
    """What may be believed.

    Attributes:
        level: "yes", "with care" or "no".
        why: the reasons, a few words each.
    """

    level: str
    why: tuple[str, ...]

    @property
    def words(self) -> str:
        """Both in a line."""
        return f"{self.level}: {'; '.join(self.why)}"


def belief(found: Mapping[str, Estimate | None], *, empty: int, count: int) -> Belief:
    """Returns what may be believed of maps.

    No: most are empty, they survive random weights (rank correlation of .5 and more), or they are
    not shown to find what counts better than random maps. With care: they find it, and another
    measure speaks against them or nothing could be told of random weights. Yes: they find it, and
    none does.

    Args:
        found: by measure; `gain` and `randomization` among them.
        empty: how many maps say nothing.
        count: of the maps.
    """
    gain, randomization = found["gain"], found["randomization"]
    if 2 * empty > count:
        return Belief("no", (f"{empty} of {count} maps are empty",))
    if randomization is not None and randomization.mean >= SURVIVES:
        return Belief("no", ("they survive random weights, so they show the image alone",))
    if gain is None or gain.low <= 0:
        return Belief("no", ("not shown to find what counts better than random maps",))
    against = []
    if randomization is None:
        against.append("random weights leave too little to compare")
    elif randomization.high >= SURVIVES:
        against.append("they may survive random weights")
    fidelity = found.get("mu_fidelity")
    if fidelity is not None and fidelity.low <= 0:
        against.append("they do not foretell what the logit loses")
    sensitivity = found.get("max_sensitivity")
    if sensitivity is not None and sensitivity.low > _UNSTABLE:
        against.append("they change by more than themselves under noise that is not seen")
    finds = "they find what counts"
    return Belief("with care", (finds, *against)) if against else Belief("yes", (finds,))
